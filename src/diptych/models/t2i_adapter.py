"""T2I-Adapter (Mou et al., 2023): a small convolutional network that is shown a picture of edges,
depth or the like once, and what it adds to the states of a U-Net's way down. Names of parameters
are those of the published folders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import relu


@dataclass(frozen=True, kw_only=True)
class T2IAdapterConfig:
    """`widths`: of the features, one a level; `factor`: pixels a side of the first cells. `kind`:
    `full` halves the size at every level but the first, `xl` at the third only, `light` is full
    with a quarter of the channels inside, and has its widths once less than it has levels."""

    channels: int = 3
    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    blocks: int = 2
    factor: int = 8
    kind: Literal["full", "xl", "light"] = "full"

    @classmethod
    def tiny(cls, **changes: Any) -> T2IAdapterConfig:
        return replace(cls(widths=(8, 16), blocks=1, factor=2), **changes)


T2I_ADAPTER_SD1 = T2IAdapterConfig()
T2I_ADAPTER_SDXL = T2IAdapterConfig(factor=16, kind="xl")


class T2IAdapter(nn.Module):
    """A picture to one feature a level of the U-Net, the same at every step."""

    def __init__(self, config: T2IAdapterConfig):
        super().__init__()
        self.config = config
        self.adapter = _Levels(config)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """picture [B, 3, H, W] in 0..1, H and W multiples of `factor` -> [B, C, h, w], one a
        level"""
        return self.adapter(picture)


class _Levels(nn.Module):
    def __init__(self, config: T2IAdapterConfig):
        super().__init__()
        light, widths = config.kind == "light", config.widths
        cells = config.channels * config.factor**2
        self.unshuffle = nn.PixelUnshuffle(config.factor)
        self.conv_in = None if light else nn.Conv2d(cells, widths[0], 3, padding=1)
        outs = (*widths, widths[-1]) if light else widths
        ins = (cells if light else widths[0], *outs[:-1])
        smaller = (2,) if config.kind == "xl" else range(1, len(outs))
        self.body = nn.ModuleList(
            _Level(before, after, config, half=i in smaller)
            for i, (before, after) in enumerate(zip(ins, outs, strict=True))
        )

    def forward(self, picture: Tensor) -> list[Tensor]:
        h = self.unshuffle(picture)
        h = h if self.conv_in is None else self.conv_in(h)
        features: list[Tensor] = []
        for level in self.body:
            h = level(h)
            features.append(h)
        return features


class _Level(nn.Module):
    """At half the size or not, to other channels, and some residual blocks."""

    def __init__(self, before: int, after: int, config: T2IAdapterConfig, *, half: bool):
        super().__init__()
        light = config.kind == "light"
        inner = after // 4 if light else after
        self.downsample = nn.AvgPool2d(2, ceil_mode=True) if half else nn.Identity()
        self.in_conv = nn.Conv2d(before, inner, 1) if light or before != inner else nn.Identity()
        self.resnets = nn.Sequential(
            *(_Residual(inner, 3 if light else 1) for _ in range(config.blocks))
        )
        self.out_conv = nn.Conv2d(inner, after, 1) if light else nn.Identity()

    def forward(self, h: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H or H / 2, W or W / 2], rounded up"""
        return self.out_conv(self.resnets(self.in_conv(self.downsample(h))))


class _Residual(nn.Module):
    def __init__(self, width: int, last: int):
        super().__init__()
        self.block1 = nn.Conv2d(width, width, 3, padding=1)
        self.block2 = nn.Conv2d(width, width, last, padding=last // 2)

    def forward(self, h: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]"""
        return h + self.block2(relu(self.block1(h)))


def scaled(features: list[Tensor], strength: float | Tensor) -> list[Tensor]:
    """The features times a strength for all rows, or for each, [B]."""
    wide = torch.promote_types(features[0].dtype, torch.float32)
    rows = torch.as_tensor(strength, dtype=wide, device=features[0].device).reshape(-1, 1, 1, 1)
    return [(feature * rows).to(feature.dtype) for feature in features]
