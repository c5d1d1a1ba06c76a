"""DaViT (Ding et al., 2022): blocks that look within windows, then from channel to channel. Names
are those of the published Florence-2 folders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from diptych.nn.attention import attend


@dataclass(frozen=True, kw_only=True)
class DaViTConfig:
    """For each stage: `widths`, `depths`, `heads` of windows, `groups` of channels; and of the
    convolution before it `kernels`, `strides`, `paddings` in cells, and whether its norm stands
    before it, `norm_first`. `window`: cells along a window."""

    widths: tuple[int, ...] = (128, 256, 512, 1024)
    depths: tuple[int, ...] = (1, 1, 9, 1)
    heads: tuple[int, ...] = (4, 8, 16, 32)
    groups: tuple[int, ...] = (4, 8, 16, 32)
    kernels: tuple[int, ...] = (7, 3, 3, 3)
    strides: tuple[int, ...] = (4, 2, 2, 2)
    paddings: tuple[int, ...] = (3, 1, 1, 1)
    norm_first: tuple[bool, ...] = (False, True, True, True)
    window: int = 12
    hidden_ratio: float = 4.0
    qkv_bias: bool = True

    @classmethod
    def tiny(cls, **changes: Any) -> DaViTConfig:
        small = cls(
            widths=(12, 16), depths=(1, 1), heads=(2, 4), groups=(3, 2), kernels=(7, 3),
            strides=(4, 2), paddings=(3, 1), norm_first=(False, True), window=3,
        )  # fmt: skip
        return replace(small, **changes)

    def side_of(self, pixels: int) -> int:
        """Cells along a side of so many pixels."""
        for kernel, stride, padding in zip(self.kernels, self.strides, self.paddings, strict=True):
            pixels = (pixels + 2 * padding - kernel) // stride + 1
        return pixels


class DaViT(nn.Module):
    """A picture to a map of features."""

    def __init__(self, config: DaViTConfig):
        super().__init__()
        self.config = config
        stages = range(len(config.widths))
        self.convs = nn.ModuleList(_Embedding(config, i) for i in stages)
        self.blocks = nn.ModuleList(
            nn.ModuleList(_Block(config, i) for _ in range(config.depths[i])) for i in stages
        )

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] -> [B, D, h, w]"""
        h = image
        for conv, blocks in zip(self.convs, self.blocks, strict=True):
            h = conv(h)
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                h = block(h)
        return h


class _Embedding(nn.Module):
    def __init__(self, config: DaViTConfig, stage: int):
        super().__init__()
        before = config.widths[stage - 1] if stage else 3
        width, self.first = config.widths[stage], config.norm_first[stage]
        self.conv = nn.Conv2d(
            before, width, config.kernels[stage], config.strides[stage], config.paddings[stage]
        )
        self.norm = nn.LayerNorm(before if self.first else width)

    def forward(self, h: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, D, h, w]"""
        if self.first:
            return self.conv(self.norm(h.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return self.norm(self.conv(h).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Block(nn.Module):
    def __init__(self, config: DaViTConfig, stage: int):
        super().__init__()
        width = config.widths[stage]
        self.spatial_block = _Spatial(config, width, config.heads[stage])
        self.channel_block = _Channel(config, width, config.groups[stage])

    def forward(self, h: Tensor) -> Tensor:
        """[B, D, h, w] -> [B, D, h, w]"""
        return self.channel_block(self.spatial_block(h))


class _Half(nn.Module, ABC):
    """A convolution by channels, attention, a convolution by channels, an MLP; each is added."""

    def __init__(self, config: DaViTConfig, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1 = nn.LayerNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm2 = nn.LayerNorm(width)
        self.ffn = _MLP(width, int(width * config.hidden_ratio))

    @abstractmethod
    def look(self, h: Tensor) -> Tensor:
        """[B, h, w, D] -> [B, h, w, D]"""

    def forward(self, h: Tensor) -> Tensor:
        """[B, D, h, w] -> [B, D, h, w]"""
        x = (h + self.conv1(h)).permute(0, 2, 3, 1)
        x = x + self.look(self.norm1(x))
        h = x.permute(0, 3, 1, 2)
        x = (h + self.conv2(h)).permute(0, 2, 3, 1)
        return (x + self.ffn(self.norm2(x))).permute(0, 3, 1, 2)


class _Spatial(_Half):
    def __init__(self, config: DaViTConfig, width: int, heads: int):
        super().__init__(config, width)
        self.window_attn = _Attention(width, bias=config.qkv_bias)
        self.window, self.heads = config.window, heads

    def look(self, h: Tensor) -> Tensor:
        """Within windows; zeros that fill the last ones are seen, as in training."""
        side, (rows, columns) = self.window, h.shape[1:3]
        h = pad(h, (0, 0, 0, -columns % side, 0, -rows % side))
        parts = h.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)
        cells = parts.flatten(3, 4).flatten(0, 2)  # [B * windows, side * side, D]
        qkv = self.window_attn.qkv(cells).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        seen = self.window_attn.proj(attend(q, k, v).transpose(1, 2).flatten(2))
        back = seen.view(parts.shape).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return back[:, :rows, :columns]


class _Channel(_Half):
    def __init__(self, config: DaViTConfig, width: int, groups: int):
        super().__init__(config, width)
        self.channel_attn = _Attention(width, bias=config.qkv_bias)
        self.groups = groups

    def look(self, h: Tensor) -> Tensor:
        """A channel is what its group's channels are; scores are divided by the root of cells."""
        cells = h.flatten(1, 2)
        qkv = self.channel_attn.qkv(cells).unflatten(-1, (3, self.groups, -1))
        q, k, v = qkv.permute(2, 0, 3, 4, 1).unbind(0)  # [B, groups, channels, cells]
        seen = attend(q, k, v, scale=cells.shape[1] ** -0.5)
        return self.channel_attn.proj(seen.permute(0, 3, 1, 2).flatten(2)).view(h.shape)


class _Attention(nn.Module):
    """The maps of either attention."""

    def __init__(self, width: int, *, bias: bool):
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width)


class _MLP(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]"""
        return self.fc2(gelu(self.fc1(x)))
