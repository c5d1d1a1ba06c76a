"""Lumina-Next (Zhuo et al., 2024): patches that look at each other and at words in one gated
attention, with norms before and after. Names are those of the published folders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle, silu

from diptych.nn.adaptive import TimeEmbedding
from diptych.nn.attention import attend, join_heads, split_heads, spread
from diptych.nn.blocks import RowLinear
from diptych.nn.norms import RMSNorm
from diptych.nn.patches import from_patches
from diptych.nn.positions import grid, rotary_pairs, rotate_pairs, timestep_features
from diptych.nn.sandwich import WIDEST, ModulatedNorm, ModulatedOut, SwiGLU

_FEATURES = 256


@dataclass(frozen=True, kw_only=True)
class LuminaNextConfig:
    """`groups`: heads of keys and values, which several heads of queries share. Of `out_channels`
    the second half is unused. `side`: of the latents that it was trained with, in cells."""

    in_channels: int = 4
    out_channels: int = 8
    patch_size: int = 2
    side: int = 128
    width: int = 2304
    depth: int = 24
    heads: int = 32
    groups: int = 8
    hidden: int = 6144
    context_width: int = 2048
    norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if self.width % (4 * self.heads) or self.heads % self.groups:
            raise ValueError(f"{self.width} channels do not part into heads, groups and places")

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @classmethod
    def tiny(cls, **changes: Any) -> LuminaNextConfig:
        small = cls(side=8, width=24, depth=2, heads=3, groups=1, hidden=40, context_width=12)
        return replace(small, **changes)


LUMINA_NEXT = LuminaNextConfig()


class _Patches(nn.Module):
    def __init__(self, config: LuminaNextConfig):
        super().__init__()
        self.p = config.patch_size
        self.proj = nn.Linear(self.p**2 * config.in_channels, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, N, D]"""
        return self.proj(pixel_unshuffle(x, self.p).flatten(2).mT)


class _Conditions(nn.Module):
    """Time and the mean of the words, added."""

    def __init__(self, config: LuminaNextConfig):
        super().__init__()
        width = min(config.width, WIDEST)
        self.timestep_embedder = TimeEmbedding(_FEATURES, width)
        self.caption_embedder = nn.Sequential(
            nn.LayerNorm(config.context_width), RowLinear(config.context_width, width)
        )

    def forward(self, t: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """t [B], context [B, L, E], mask [B, L] -> [B, C]"""
        embed = self.timestep_embedder
        time = embed(timestep_features(t, _FEATURES, embed.linear_1.weight.dtype))
        words = mask[..., None].to(context.dtype)
        mean = (context * words).sum(dim=1) / words.sum(dim=1)
        return time + self.caption_embedder(mean)


class _Attention(nn.Module):
    """Queries and keys normed over all heads together; no biases."""

    def __init__(self, config: LuminaNextConfig, seen: int):
        super().__init__()
        width, self.head_dim, self.heads = config.width, config.head_dim, config.heads
        shared = config.groups * config.head_dim
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(seen, shared, bias=False)
        self.to_v = nn.Linear(seen, shared, bias=False)
        self.norm_q, self.norm_k = nn.LayerNorm(width), nn.LayerNorm(shared)

    def forward(
        self, x: Tensor, seen: Tensor, turns: tuple[Tensor, Tensor | None], mask: Tensor | None
    ) -> Tensor:
        """x [B, N, D], seen [B, M, E], turns [2, N, head_dim / 2] of the queries and of the keys
        -> [B, H, N, head_dim]"""
        parts = self.norm_q(self.to_q(x)), self.norm_k(self.to_k(seen)), self.to_v(seen)
        q, k, v = (split_heads(part, self.head_dim) for part in parts)
        q, k = rotate_pairs(q, turns[0]), k if turns[1] is None else rotate_pairs(k, turns[1])
        return attend(q, spread(k, self.heads), spread(v, self.heads), mask)


class _WordAttention(_Attention):
    """The one with which the words are looked at projects for both."""

    def __init__(self, config: LuminaNextConfig):
        super().__init__(config, config.context_width)
        self.to_out = nn.Sequential(nn.Linear(config.width, config.width, bias=False))


class _Block(nn.Module):
    def __init__(self, config: LuminaNextConfig):
        super().__init__()
        width, epsilon = config.width, config.norm_epsilon
        self.gate = nn.Parameter(torch.zeros(config.heads))
        self.attn1, self.attn2 = _Attention(config, width), _WordAttention(config)
        self.feed_forward = SwiGLU(width, config.hidden)
        self.norm1, self.norm2 = ModulatedNorm(width, epsilon), RMSNorm(width, epsilon)
        self.ffn_norm1, self.ffn_norm2 = RMSNorm(width, epsilon), RMSNorm(width, epsilon)
        self.norm1_context = RMSNorm(config.context_width, epsilon)

    def forward(
        self, x: Tensor, context: Tensor, mask: Tensor, turns: Tensor, sharp: float, c: Tensor
    ) -> Tensor:
        """x [B, N, D], context [B, L, E], mask [B, 1, 1, L], turns [2, N, head_dim / 2], c [B, C]
        after its SiLU -> [B, N, D]"""
        h, gate, last_scale, last_gate = self.norm1(x, c)
        patches = self.attn1(h, h, (turns * sharp, turns), None)
        words = self.attn2(h, self.norm1_context(context), (turns, None), mask)
        mixed = patches + self.gate.tanh()[:, None, None] * words
        x = x + gate * self.norm2(self.attn2.to_out(join_heads(mixed)))
        return x + last_gate * self.ffn_norm2(self.feed_forward(self.ffn_norm1(x) * last_scale))


class LuminaNext(nn.Module):
    """Noisy latent, time and words to data - noise, and as many channels that mean nothing."""

    pad_token: Tensor

    def __init__(self, config: LuminaNextConfig):
        super().__init__()
        self.config, width = config, config.width
        self.patch_embedder = _Patches(config)
        # In the files, and read by nothing.
        self.register_buffer("pad_token", torch.zeros(width))
        self.time_caption_embed = _Conditions(config)
        self.layers = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.norm_out = ModulatedOut(width, config.patch_size**2 * config.out_channels)

    def forward(self, x: Tensor, t: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """x [B, C, H, W], t [B] in 0..1 (0: noise), context [B, L, E], mask [B, L] bool (True: a
        word) -> [B, C', H, W]

        A picture of another size than the network's own has its places stretched to those that
        were trained, and looks at its N patches as much more sharply as ln N is larger (section
        2.3 with the watershed at the end; section 2.2).
        """
        p, side = self.config.patch_size, self.config.side
        rows, columns = x.shape[2] // p, x.shape[3] // p
        stretch = sqrt(x.shape[2] * x.shape[3]) / side
        sharp = sqrt(log(rows * columns) / log((side // p) ** 2))
        wide = torch.promote_types(x.dtype, torch.float32)
        turns = self._turns(rows, columns, stretch).to(x.device, wide)
        c = silu(self.time_caption_embed(t, context, mask))
        h, seen = self.patch_embedder(x), mask[:, None, None]
        for block in self.layers:
            h = block(h, context, seen, turns, sharp, c)
        return from_patches(self.norm_out(h, c), p, rows, columns)

    def _turns(self, rows: int, columns: int, stretch: float) -> Tensor:
        """[2, rows * columns, head_dim / 2]: the waves of row and column take turns."""
        half = self.config.head_dim // 2
        turns = rotary_pairs(grid(rows, columns).double() / stretch, (half, half))
        return turns.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)
