"""What the transformers of SD3 and FLUX are built of: norms that time and words modulate (Peebles
and Xie, 2023), and attention of picture and words over each other, each with weights of its own
(Esser et al., 2024). Names of modules are those of the published folders."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from diptych.nn.attention import attend, join_heads
from diptych.nn.blocks import RowLinear
from diptych.nn.norms import RMSNorm, bare_layer_norm
from diptych.nn.positions import rotate_pairs, timestep_features

_FEATURES = 256


class TimeEmbedding(nn.Module):
    """Two linear maps of [B, C] with a SiLU between: features of a time, or a vector of words."""

    def __init__(self, features: int, width: int):
        super().__init__()
        self.linear_1, self.linear_2 = RowLinear(features, width), RowLinear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] -> [B, T]"""
        return self.linear_2(silu(self.linear_1(features)))


class TimeTextEmbedding(nn.Module):
    """What every block is told: the time, the words as one vector, and, where a network was
    distilled so, the guidance."""

    def __init__(self, pooled_width: int, width: int, *, guidance: bool = False):
        super().__init__()
        self.timestep_embedder = TimeEmbedding(_FEATURES, width)
        self.guidance_embedder = TimeEmbedding(_FEATURES, width) if guidance else None
        self.text_embedder = TimeEmbedding(pooled_width, width)

    def forward(self, t: Tensor, pooled: Tensor, guidance: Tensor | None = None) -> Tensor:
        """t and guidance [B], both times 1000 already, pooled [B, P] -> [B, D] after its SiLU.

        Numbers are never of a narrower type than float32: bfloat16 would make 3504 of 3500.
        """
        kind = self.text_embedder.linear_1.weight.dtype
        told = self.timestep_embedder(timestep_features(t, _FEATURES, kind))
        if self.guidance_embedder is not None:
            if guidance is None:
                raise ValueError("this network is told a guidance")
            told = told + self.guidance_embedder(timestep_features(guidance, _FEATURES, kind))
        elif guidance is not None:
            raise ValueError("this network has no input for guidance")
        return silu(told + self.text_embedder(pooled))


class Modulation(nn.Module):
    """The `count` vectors by which a block's norms are shifted and scaled and its branches gated.
    The norms themselves have no parameters."""

    def __init__(self, width: int, count: int):
        super().__init__()
        self.count = count
        self.linear = RowLinear(width, count * width)

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:
        """c [B, D] -> as many of [B, 1, D]"""
        return self.linear(c)[:, None].chunk(self.count, dim=-1)


def modulated(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """h [B, N, D] normed, then scaled and shifted."""
    return bare_layer_norm(h) * (1 + scale) + shift


def within(h: Tensor) -> Tensor:
    """The same, within what float16 can hold: the published networks leave it now and then."""
    return h.clamp(-65504, 65504) if h.dtype == torch.float16 else h


class PictureAttention(nn.Module):
    """The picture looks at itself. `normed`: queries and keys pass an RMS norm; `out`: whether
    what was seen is mixed here, or by the caller."""

    def __init__(self, width: int, head_dim: int, *, normed: bool, out: bool = True):
        super().__init__()
        self.head_dim = head_dim
        self.to_q, self.to_k = nn.Linear(width, width), nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.norm_q, self.norm_k = (RMSNorm(head_dim) if normed else None for _ in range(2))
        self.to_out = nn.Sequential(nn.Linear(width, width)) if out else nn.Identity()

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, N, D] -> query, key, value [B, N, H, head_dim]"""
        parts = self.to_q(x), self.to_k(x), self.to_v(x)
        q, k, v = (part.unflatten(-1, (-1, self.head_dim)) for part in parts)
        return _normed(q, self.norm_q), _normed(k, self.norm_k), v

    def forward(self, x: Tensor, turns: Tensor | None = None) -> Tensor:
        """x [B, N, D], turns [2, N, head_dim / 2] -> [B, N, D]"""
        return self.to_out(_seen(*self.heads(x), turns))


class JointAttention(PictureAttention):
    """Picture and words look at both. `last`: nothing more is read of the words, so they look at
    nothing, although the files hold what they would have asked with."""

    def __init__(self, width: int, head_dim: int, *, normed: bool, last: bool = False):
        super().__init__(width, head_dim, normed=normed)
        self.add_q_proj, self.add_k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.add_v_proj = nn.Linear(width, width)
        self.norm_added_q, self.norm_added_k = (
            RMSNorm(head_dim) if normed else None for _ in range(2)
        )
        self.to_add_out = None if last else nn.Linear(width, width)

    def words(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, L, D] -> query [B, L or 0, H, head_dim], key and value [B, L, H, head_dim]"""
        asks = y[:, :0] if self.to_add_out is None else y
        parts = self.add_q_proj(asks), self.add_k_proj(y), self.add_v_proj(y)
        q, k, v = (part.unflatten(-1, (-1, self.head_dim)) for part in parts)
        return _normed(q, self.norm_added_q), _normed(k, self.norm_added_k), v

    def forward(
        self, x: Tensor, y: Tensor, turns: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """x [B, N, D], y [B, L, D], turns of words, then picture [2, L + N, head_dim / 2] ->
        what each saw, [B, N, D] and [B, L, D] or None"""
        pairs = zip(self.words(y), self.heads(x), strict=True)
        q, k, v = (torch.cat(pair, dim=1) for pair in pairs)
        seen = _seen(q, k, v, turns)
        if self.to_add_out is None:
            return self.to_out(seen), None
        # In one piece each: a linear map of a view takes another, slower way.
        words, picture = (part.contiguous() for part in seen.split([y.shape[1], x.shape[1]], 1))
        return self.to_out(picture), self.to_add_out(words)


def _normed(part: Tensor, norm: nn.Module | None) -> Tensor:
    return part if norm is None else norm(part)


def _seen(q: Tensor, k: Tensor, v: Tensor, turns: Tensor | None) -> Tensor:
    """[B, N, H, head_dim] -> [B, N, D]"""
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    if turns is not None:
        q, k = rotate_pairs(q, turns), rotate_pairs(k, turns)
    return join_heads(attend(q, k, v))
