"""Lumina-Image 2 (Qin et al., 2025): words and patches in one sequence and one set of weights,
each refined by itself first. Names are those of the published folders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from diptych.nn.adaptive import TimeEmbedding
from diptych.nn.attention import attend, join_heads, split_heads, spread
from diptych.nn.norms import RMSNorm
from diptych.nn.patches import from_patches, to_patches
from diptych.nn.positions import grid, rotary_pairs, rotate_pairs, timestep_features
from diptych.nn.sandwich import WIDEST, ModulatedNorm, ModulatedOut, SwiGLU

_FEATURES = 256
_HEAD_EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class Lumina2Config:
    """`groups`: heads of keys and values, which several heads of queries share. `refiners`: blocks
    that words and patches have each for themselves. `axes`: dimensions of a head that tell the
    place among the words, row and column. `side`: of the latents that it paints where nothing is
    said, in cells."""

    in_channels: int = 16
    out_channels: int = 16
    patch_size: int = 2
    side: int = 128
    width: int = 2304
    depth: int = 26
    refiners: int = 2
    heads: int = 24
    groups: int = 8
    hidden: int = 9216
    context_width: int = 2304
    axes: tuple[int, ...] = (32, 32, 32)
    norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if self.width % self.heads or self.heads % self.groups:
            raise ValueError(f"{self.width} channels do not part into heads and groups")
        if len(self.axes) != 3 or sum(self.axes) != self.head_dim or any(a % 2 for a in self.axes):
            raise ValueError(f"axes {self.axes} do not make a head of {self.head_dim}")

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @classmethod
    def tiny(cls, **changes: Any) -> Lumina2Config:
        small = cls(
            in_channels=4, out_channels=4, side=8, width=24, depth=2, refiners=1, heads=3,
            groups=1, hidden=40, context_width=12, axes=(4, 2, 2),
        )  # fmt: skip
        return replace(small, **changes)


LUMINA2 = Lumina2Config()


class _Conditions(nn.Module):
    def __init__(self, config: Lumina2Config):
        super().__init__()
        self.timestep_embedder = TimeEmbedding(_FEATURES, min(config.width, WIDEST))
        self.caption_embedder = nn.Sequential(
            RMSNorm(config.context_width, config.norm_epsilon),
            nn.Linear(config.context_width, config.width),
        )

    def forward(self, t: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """t [B], context [B, L, E] -> what is told of time [B, C], words [B, L, D]"""
        embed = self.timestep_embedder
        time = embed(timestep_features(t, _FEATURES, embed.linear_1.weight.dtype))
        return time, self.caption_embedder(context)


class _Attention(nn.Module):
    """Normed queries and keys, turned to their places; no biases."""

    def __init__(self, config: Lumina2Config):
        super().__init__()
        width, self.head_dim, self.heads = config.width, config.head_dim, config.heads
        shared = config.groups * config.head_dim
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, shared, bias=False)
        self.to_v = nn.Linear(width, shared, bias=False)
        self.norm_q = RMSNorm(config.head_dim, _HEAD_EPSILON)
        self.norm_k = RMSNorm(config.head_dim, _HEAD_EPSILON)
        self.to_out = nn.Sequential(nn.Linear(width, width, bias=False))

    def forward(self, x: Tensor, turns: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, N, D], turns [2, B or 1, 1, N, head_dim / 2], mask [B, 1, 1, N] -> [B, N, D]"""
        parts = self.to_q(x), self.to_k(x), self.to_v(x)
        q, k, v = (split_heads(part, self.head_dim) for part in parts)
        q, k = rotate_pairs(self.norm_q(q), turns), rotate_pairs(self.norm_k(k), turns)
        k, v = spread(k, self.heads), spread(v, self.heads)
        return self.to_out(join_heads(attend(q, k, v, mask)))


class _Block(nn.Module):
    """Attention and feed-forward, a norm before and after each; blocks of words alone are told
    no time."""

    def __init__(self, config: Lumina2Config, *, told: bool = True):
        super().__init__()
        width, epsilon = config.width, config.norm_epsilon
        self.attn = _Attention(config)
        self.feed_forward = SwiGLU(width, config.hidden)
        self.norm1 = ModulatedNorm(width, epsilon) if told else RMSNorm(width, epsilon)
        self.ffn_norm1 = RMSNorm(width, epsilon)
        self.norm2, self.ffn_norm2 = RMSNorm(width, epsilon), RMSNorm(width, epsilon)

    def forward(
        self, x: Tensor, turns: Tensor, mask: Tensor | None = None, c: Tensor | None = None
    ) -> Tensor:
        """x [B, N, D], turns and mask as for attention, c [B, C] after its SiLU -> [B, N, D]"""
        if isinstance(self.norm1, ModulatedNorm):
            h, gate, last_scale, last_gate = self.norm1(x, c)
        else:
            h, gate, last_scale, last_gate = self.norm1(x), 1, 1, 1
        x = x + gate * self.norm2(self.attn(h, turns, mask))
        h = self.feed_forward(self.ffn_norm1(x) * last_scale)
        return x + last_gate * self.ffn_norm2(h)


class Lumina2(nn.Module):
    """Noisy latent, time and words to data - noise."""

    def __init__(self, config: Lumina2Config):
        super().__init__()
        self.config, width, cells = config, config.width, config.patch_size**2
        self.x_embedder = nn.Linear(cells * config.in_channels, width)
        self.time_caption_embed = _Conditions(config)
        self.noise_refiner = nn.ModuleList(_Block(config) for _ in range(config.refiners))
        self.context_refiner = nn.ModuleList(
            _Block(config, told=False) for _ in range(config.refiners)
        )
        self.layers = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.norm_out = ModulatedOut(width, cells * config.out_channels)

    def forward(self, x: Tensor, t: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """x [B, C, H, W], t [B] in 0..1 (0: noise), context [B, L, E], mask [B, L] bool (True: a
        word; words come first in every row) -> [B, C', H, W]"""
        p, words = self.config.patch_size, context.shape[1]
        rows, columns = x.shape[2] // p, x.shape[3] // p
        wide = torch.promote_types(x.dtype, torch.float32)
        turns = self._turns(mask, rows, columns).to(x.device, wide)
        seen = mask[:, None, None]
        time, y = self.time_caption_embed(t, context)
        c = silu(time)
        for block in self.context_refiner:
            y = block(y, turns[..., :words, :], seen)
        h = self.x_embedder(to_patches(x, p))
        for block in self.noise_refiner:
            h = block(h, turns[..., words:, :], None, c)
        # The published code moves the patches up to the last word; behind a mask that is the same.
        all_seen = torch.cat([seen, seen.new_ones(len(x), 1, 1, h.shape[1])], dim=3)
        h = torch.cat([y, h], dim=1)
        for block in self.layers:
            h = block(h, turns, all_seen, c)
        return from_patches(self.norm_out(h[:, words:], c), p, rows, columns)

    def _turns(self, mask: Tensor, rows: int, columns: int) -> Tensor:
        """mask [B, L] -> [2, B, 1, L + N, head_dim / 2]: words by their number, patches all behind
        the last word, by row and column."""
        count, length = mask.shape
        places = torch.zeros(count, length + rows * columns, 3)
        places[:, :length, 0] = torch.arange(length)
        places[:, length:, 0] = mask.cpu().sum(dim=1, keepdim=True)
        places[:, length:, 1:] = grid(rows, columns)
        return rotary_pairs(places, self.config.axes)[:, :, None]
