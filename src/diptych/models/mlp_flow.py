"""A velocity field for points in the plane: the smallest network that generates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi

import torch
from torch import Tensor, nn
from torch.nn.functional import silu


@dataclass(frozen=True, kw_only=True)
class MLPFlowConfig:
    """`dimensions` of a point, `frequencies` of the Fourier features of its time."""

    dimensions: int = 2
    width: int = 64
    depth: int = 3
    frequencies: int = 8

    @classmethod
    def tiny(cls, **changes: int) -> MLPFlowConfig:
        return replace(cls(width=16, depth=1, frequencies=2), **changes)


class MLPFlow(nn.Module):
    """A residual MLP that reads a point and a time and says where the point goes."""

    def __init__(self, config: MLPFlowConfig):
        super().__init__()
        self.config = config
        self.point_in = nn.Linear(config.dimensions, config.width)
        self.time_in = nn.Linear(2 * config.frequencies, config.width)
        self.blocks = nn.ModuleList(_Block(config.width) for _ in range(config.depth))
        self.point_out = nn.Linear(config.width, config.dimensions)
        nn.init.zeros_(self.point_out.weight)
        nn.init.zeros_(self.point_out.bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x [B, D], t [B] in 0..1 (1 is noise) -> velocity dx/dt [B, D]"""
        octaves = 2.0 ** torch.arange(self.config.frequencies, device=t.device, dtype=t.dtype)
        phase = t[:, None] * octaves * (pi / 2)
        h = self.point_in(x) + self.time_in(torch.cat([phase.sin(), phase.cos()], dim=-1))
        for block in self.blocks:
            h = block(h)
        return self.point_out(silu(h))


class _Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.down(silu(self.up(self.norm(h))))
