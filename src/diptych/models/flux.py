"""FLUX.1 (Black Forest Labs, 2024): blocks in which words and picture have weights of their own,
then blocks in which they share them, attention beside the MLP; places are rotary on three axes.
dev and schnell paint; Fill, Depth and Canny are shown a picture on more channels. Names of
parameters are those of the published folders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad, pixel_shuffle, pixel_unshuffle

from diptych.nn.adaptive import (
    JointAttention,
    Modulation,
    PictureAttention,
    TimeTextEmbedding,
    modulated,
    within,
)
from diptych.nn.multihead import FeedForward
from diptych.nn.positions import grid, rotary_pairs
from diptych.nn.reuse import FirstBlocks

PATCH = 2  # latent cells a side of a token


@dataclass(frozen=True, kw_only=True)
class FluxConfig:
    """Channels are those of the latent, a quarter of a token's; `axes`: how many dimensions of a
    head each axis of places turns: none of them, row, column; `guidance`: it is told one."""

    in_channels: int = 16
    out_channels: int = 16
    depth: int = 19
    single_depth: int = 38
    heads: int = 24
    axes: tuple[int, ...] = (16, 56, 56)
    context_width: int = 4096
    pooled_width: int = 768
    guidance: bool = True

    def __post_init__(self) -> None:
        if len(self.axes) != 3 or any(axis % 2 for axis in self.axes):
            raise ValueError(f"axes {self.axes} are not three even numbers")

    @property
    def head_dim(self) -> int:
        """Dimensions of a head."""
        return sum(self.axes)

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.heads * self.head_dim

    @classmethod
    def tiny(cls, **changes: Any) -> FluxConfig:
        small = cls(
            in_channels=4, out_channels=4, depth=1, single_depth=2, heads=2, axes=(4, 4, 8),
            context_width=24, pooled_width=20,
        )  # fmt: skip
        return replace(small, **changes)


FLUX_DEV = FluxConfig()
FLUX_SCHNELL = FluxConfig(guidance=False)
FLUX_FILL = FluxConfig(in_channels=96)  # latent, the latent that is kept, the mask's 8 x 8 pixels
FLUX_CONTROL = FluxConfig(in_channels=32)  # latent, latent of a depth map or of edges


class Flux(nn.Module):
    """Noisy latent, time and words to a velocity."""

    def __init__(self, config: FluxConfig):
        super().__init__()
        self.config, width, cells = config, config.width, PATCH**2
        self.x_embedder = nn.Linear(cells * config.in_channels, width)
        self.context_embedder = nn.Linear(config.context_width, width)
        self.time_text_embed = TimeTextEmbedding(
            config.pooled_width, width, guidance=config.guidance
        )
        self.transformer_blocks = nn.ModuleList(_Double(config) for _ in range(config.depth))
        self.single_transformer_blocks = nn.ModuleList(
            _Single(config) for _ in range(config.single_depth)
        )
        self.norm_out = Modulation(width, 2)
        self.proj_out = nn.Linear(width, cells * config.out_channels)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        pooled: Tensor,
        guidance: Tensor | None = None,
        reuse: FirstBlocks | None = None,
    ) -> Tensor:
        """x [B, C, H, W], H and W even; t [B] in 0..1 (1: noise); context [B, L, E], padding is
        read too; pooled [B, P]; guidance [B] if and only if the config has it
        -> [B, C out, H, W]"""
        rows, columns = x.shape[2] // PATCH, x.shape[3] // PATCH
        h = self.x_embedder(pixel_unshuffle(x, PATCH).flatten(2).mT.contiguous())
        y = self.context_embedder(context)
        wide = torch.promote_types(h.dtype, torch.float32)
        told = None if guidance is None else 1000 * guidance.to(wide)
        c = self.time_text_embed(1000 * t.to(wide), pooled, told)
        turns = self._turns(y.shape[1], rows, columns, h.device)
        first, *others = self.transformer_blocks
        before = h
        h, y = first(h, y, c, turns)

        def rest(h: Tensor, y: Tensor, c: Tensor) -> Tensor:
            for block in others:
                h, y = block(h, y, c, turns)
            both = torch.cat([y, h], dim=1)
            for block in self.single_transformer_blocks:
                both = block(both, c, turns)
            return both[:, y.shape[1] :].contiguous()

        h = rest(h, y, c) if reuse is None else reuse.ended(before, h, rest, y, c)
        scale, shift = self.norm_out(c)
        h = self.proj_out(modulated(h, shift, scale))
        return pixel_shuffle(h.mT.unflatten(2, (rows, columns)), PATCH)

    def _turns(self, words: int, rows: int, columns: int, device: torch.device) -> Tensor:
        """Of all tokens, words first, which have no place: [2, L + N, head_dim / 2]."""
        cells = pad(grid(rows, columns), (1, 0, words, 0))
        turns = rotary_pairs(cells, self.config.axes)
        return turns.to(torch.promote_types(self.proj_out.weight.dtype, torch.float32)).to(device)


class _Double(nn.Module):
    """Attention over words and picture together, then an MLP for each."""

    def __init__(self, config: FluxConfig):
        super().__init__()
        width = config.width
        self.norm1, self.norm1_context = Modulation(width, 6), Modulation(width, 6)
        self.attn = JointAttention(width, config.head_dim, normed=True)
        self.ff, self.ff_context = FeedForward(width), FeedForward(width)

    def forward(self, x: Tensor, y: Tensor, c: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, N, D], y [B, L, D], c [B, D] -> x, y"""
        a, b = self.norm1(c), self.norm1_context(c)
        seen, read = self.attn(modulated(x, a[0], a[1]), modulated(y, b[0], b[1]), turns)
        x, y = x + a[2] * seen, y + b[2] * read
        x = x + a[5] * self.ff(modulated(x, a[3], a[4]))
        return x, within(y + b[5] * self.ff_context(modulated(y, b[3], b[4])))


class _Single(nn.Module):
    """Attention and MLP side by side, mixed by one linear map."""

    def __init__(self, config: FluxConfig):
        super().__init__()
        width = config.width
        self.norm = Modulation(width, 3)
        self.attn = PictureAttention(width, config.head_dim, normed=True, out=False)
        self.proj_mlp = nn.Linear(width, 4 * width)
        self.proj_out = nn.Linear(5 * width, width)

    def forward(self, h: Tensor, c: Tensor, turns: Tensor) -> Tensor:
        """h [B, L + N, D], c [B, D] -> h"""
        shift, scale, gate = self.norm(c)
        normed = modulated(h, shift, scale)
        thought = gelu(self.proj_mlp(normed), approximate="tanh")
        made = self.proj_out(torch.cat([self.attn(normed, turns), thought], dim=-1))
        return within(h + gate * made)
