"""The vision tower of Qwen2-VL (Wang et al., 2024, section 2.1), and of Qwen2.5-VL (Bai et al.,
2025, section 2.1.1), which looks within windows in most layers. Pictures of any size, their patches
in the order of the tokens that they become. Names are those of the published folders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, silu

from diptych.models.clip_blocks import quick_gelu
from diptych.models.qwen_vl.inputs import NativeSpec, windows
from diptych.nn.attention import attend, join_heads
from diptych.nn.norms import RMSNorm
from diptych.nn.rope import turn

_BASE = 10_000.0


@dataclass(frozen=True, kw_only=True)
class QwenTowerConfig:
    """`patch` and `merge`: pixels of a patch's side, and patches of a token's side; `copies` of a
    still picture. `rows`: width of the language model. `gated`: Qwen2.5's, norms by the root mean
    square, gated MLPs, and windows of `window` pixels but in the layers `full`."""

    width: int = 1280
    depth: int = 32
    heads: int = 16
    hidden: int = 5120
    patch: int = 14
    merge: int = 2
    copies: int = 2
    rows: int = 1536
    gated: bool = False
    window: int = 112
    full: tuple[int, ...] = ()

    @classmethod
    def tiny(cls, **changes: Any) -> QwenTowerConfig:
        small = cls(width=16, depth=3, heads=2, hidden=20, patch=4, rows=24)
        return replace(small, **changes)

    @property
    def values(self) -> int:
        """Numbers of a patch."""
        return 3 * self.copies * self.patch**2

    @property
    def spec(self) -> NativeSpec:
        """What windows are counted by."""
        return NativeSpec(patch=self.patch, merge=self.merge, copies=self.copies)


class QwenTower(nn.Module):
    """Patches of one picture to rows of the language model."""

    def __init__(self, config: QwenTowerConfig):
        super().__init__()
        self.config = config
        self.patch_embed = _PatchEmbed(config)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.merger = _Merger(config)

    def forward(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        """patches [N, values], those of a token side by side; `rows` x `columns` tokens -> [N /
        merge^2, E]"""
        config = self.config
        h = self.patch_embed(patches)
        turns = self._turns(rows, columns).to(h.device, torch.promote_types(h.dtype, torch.float32))
        each = config.merge**2
        order, near = None, None
        if config.gated:
            order, borders = windows([(rows, columns)], config.spec, config.window)
            order = order.to(h.device)
            places = (order[:, None] * each + torch.arange(each, device=h.device)).flatten()
            h, turns = h[places], turns[:, :, places]
            near = _same(borders.to(h.device))
        for number, block in enumerate(self.blocks):
            h = block(h[None], turns, None if number in config.full else near)[0]
        merged = self.merger(h)
        return merged if order is None else merged[order.argsort()]

    def _turns(self, rows: int, columns: int) -> Tensor:
        """Cosines and sines of each patch's row and column, [2, 1, N, 1, head_dim]; angles are
        float32, as it was trained."""
        side, quarter = self.config.merge, self.config.width // self.config.heads // 4
        y, x = torch.meshgrid(
            torch.arange(rows * side), torch.arange(columns * side), indexing="ij"
        )
        cells = torch.stack([y, x], -1).unflatten(0, (rows, side)).unflatten(2, (columns, side))
        place = cells.permute(0, 2, 1, 3, 4).reshape(-1, 2)
        rates = 1.0 / _BASE ** (torch.arange(quarter, dtype=torch.float32) / quarter)
        angles = (place[..., None] * rates).flatten(1)
        cos, sin = angles.cos(), angles.sin()
        turns = torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)])
        return turns[:, None, :, None]


def _same(borders: Tensor) -> Tensor:
    """Borders [W + 1] between windows -> who may look at whom, [1, 1, N, N]"""
    sizes = borders.diff()
    owner = torch.arange(len(sizes), device=borders.device).repeat_interleave(sizes)
    return (owner[:, None] == owner)[None, None]


class _PatchEmbed(nn.Module):
    def __init__(self, config: QwenTowerConfig):
        super().__init__()
        size = (config.copies, config.patch, config.patch)
        self.proj = nn.Conv3d(3, config.width, size, size, bias=False)

    def forward(self, patches: Tensor) -> Tensor:
        """[N, values] -> [N, D]: each patch is as large as the filter."""
        return linear(patches, self.proj.weight.flatten(1))


def _norm(config: QwenTowerConfig) -> nn.Module:
    return RMSNorm(config.width) if config.gated else nn.LayerNorm(config.width, eps=1e-6)


class _Block(nn.Module):
    def __init__(self, config: QwenTowerConfig):
        super().__init__()
        self.norm1, self.norm2 = _norm(config), _norm(config)
        self.attn = _Attention(config)
        self.mlp = _GatedMLP(config) if config.gated else _MLP(config)

    def forward(self, x: Tensor, turns: Tensor, seen: Tensor | None) -> Tensor:
        """[1, N, D] -> [1, N, D]"""
        x = x + self.attn(self.norm1(x), turns, seen)
        return x + self.mlp(self.norm2(x))


class _Attention(nn.Module):
    def __init__(self, config: QwenTowerConfig):
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, turns: Tensor, seen: Tensor | None) -> Tensor:
        """x [1, N, D], turns [2, 1, N, 1, E], seen [1, 1, N, N] (None: all) -> [1, N, D]"""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        wide = turns.dtype
        q, k = turn(q.to(wide), turns).to(v.dtype), turn(k.to(wide), turns).to(v.dtype)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        return self.proj(join_heads(attend(q, k, v, seen)))


class _MLP(nn.Module):
    def __init__(self, config: QwenTowerConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]"""
        return self.fc2(quick_gelu(self.fc1(x)))


class _GatedMLP(nn.Module):
    def __init__(self, config: QwenTowerConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.hidden)
        self.up_proj = nn.Linear(config.width, config.hidden)
        self.down_proj = nn.Linear(config.hidden, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]"""
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


class _Merger(nn.Module):
    """The patches of a token become one row."""

    def __init__(self, config: QwenTowerConfig):
        super().__init__()
        wide = config.width * config.merge**2
        self.ln_q, self.wide = _norm(config), wide
        self.mlp = nn.Sequential(nn.Linear(wide, wide), nn.GELU(), nn.Linear(wide, config.rows))

    def forward(self, x: Tensor) -> Tensor:
        """[N, D] -> [N / merge^2, E]"""
        first, last = self.mlp[0], self.mlp[2]
        return last(gelu(first(self.ln_q(x).view(-1, self.wide))))
