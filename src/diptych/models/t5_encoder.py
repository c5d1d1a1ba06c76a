"""The encoder of T5 v1.1 (Raffel et al., 2020; Shazeer, 2020, for its gated MLP): what SD3, FLUX
and PixArt read words with. Names of parameters are those of the published folders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, rms_norm

from diptych.nn.attention import attend, join_heads, split_heads


@dataclass(frozen=True, kw_only=True)
class T5EncoderConfig:
    """`buckets` of distances between tokens, of which all beyond `distance` are one."""

    vocabulary: int = 32128
    width: int = 4096
    depth: int = 24
    heads: int = 64
    head_dim: int = 64
    hidden: int = 10240
    buckets: int = 32
    distance: int = 128
    norm_epsilon: float = 1e-6

    @classmethod
    def tiny(cls, **changes: Any) -> T5EncoderConfig:
        small = cls(vocabulary=40, width=24, depth=2, heads=2, head_dim=16, hidden=40)
        return replace(small, **changes)


T5_XXL = T5EncoderConfig()


class T5Encoder(nn.Module):
    """Tokens to their states after the last block, normed."""

    def __init__(self, config: T5EncoderConfig):
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(config.vocabulary, config.width)
        self.encoder = _Stack(config)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens [B, L] int64; mask [B, L] (True: a token), None where padding is read too, as
        SD3 and FLUX were trained -> [B, L, D]"""
        return self.encoder(self.shared(tokens), mask)


class _Stack(nn.Module):
    def __init__(self, config: T5EncoderConfig):
        super().__init__()
        self.block = nn.ModuleList(_Block(config, first=i == 0) for i in range(config.depth))
        self.final_layer_norm = _Norm(config)

    def forward(self, h: Tensor, mask: Tensor | None) -> Tensor:
        """h [B, L, D], mask [B, L] -> [B, L, D]"""
        first = cast(_Attention, self.get_submodule("block.0.layer.0.SelfAttention"))
        scores = first.scores(h.shape[1])  # of every block
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], torch.finfo(scores.dtype).min)
        for block in self.block:
            h = block(h, scores)
        return self.final_layer_norm(h)


class _Block(nn.Module):
    def __init__(self, config: T5EncoderConfig, *, first: bool):
        super().__init__()
        self.layer = nn.ModuleList([_Looking(config, first=first), _Thinking(config)])

    def forward(self, h: Tensor, scores: Tensor) -> Tensor:
        """h [B, L, D], scores [B or 1, H, L, L] -> [B, L, D]"""
        return self.layer[1](self.layer[0](h, scores))


class _Looking(nn.Module):
    def __init__(self, config: T5EncoderConfig, *, first: bool):
        super().__init__()
        self.layer_norm, self.SelfAttention = _Norm(config), _Attention(config, first=first)

    def forward(self, h: Tensor, scores: Tensor) -> Tensor:
        return h + self.SelfAttention(self.layer_norm(h), scores)


class _Thinking(nn.Module):
    def __init__(self, config: T5EncoderConfig):
        super().__init__()
        self.layer_norm, self.DenseReluDense = _Norm(config), _GatedMLP(config)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.DenseReluDense(self.layer_norm(h))


class _Norm(nn.Module):
    """RMS norm (Zhang and Sennrich, 2019) in float32 or finer, given back as the weights are."""

    def __init__(self, config: T5EncoderConfig):
        super().__init__()
        self.epsilon = config.norm_epsilon
        self.weight = nn.Parameter(torch.ones(config.width))

    def forward(self, h: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]"""
        return self.weight * rms_norm(h, h.shape[-1:], eps=self.epsilon).to(self.weight.dtype)


class _Attention(nn.Module):
    """Scores are not divided by sqrt(head_dim), and what is added to them by the distance of two
    tokens stands in the first block alone."""

    def __init__(self, config: T5EncoderConfig, *, first: bool):
        super().__init__()
        self.config, inner = config, config.heads * config.head_dim
        self.q, self.k, self.v = (nn.Linear(config.width, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, config.width, bias=False)
        if first:
            self.relative_attention_bias = nn.Embedding(config.buckets, config.heads)

    def scores(self, length: int) -> Tensor:
        """What is added by distance, [1, H, L, L]."""
        places = torch.arange(length)
        table = buckets_of(places - places[:, None], self.config.buckets, self.config.distance).to(
            self.relative_attention_bias.weight.device
        )
        return self.relative_attention_bias(table).permute(2, 0, 1)[None]

    def forward(self, h: Tensor, scores: Tensor) -> Tensor:
        """h [B, L, D], scores [B or 1, H, L, L] -> [B, L, D]"""
        parts = self.q(h), self.k(h), self.v(h)
        q, k, v = (split_heads(part, self.config.head_dim) for part in parts)
        return self.o(join_heads(attend(q, k, v, scores, scale=1.0)))


class _GatedMLP(nn.Module):
    def __init__(self, config: T5EncoderConfig):
        super().__init__()
        width, hidden = config.width, config.hidden
        self.wi_0, self.wi_1 = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.wo = nn.Linear(hidden, width, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]"""
        gate, value = gelu(self.wi_0(h), approximate="tanh"), self.wi_1(h)
        if gate.dtype != torch.float16:
            return self.wo(gate * value)
        # Their product has no room there, nor has the sum of all blocks, float32 from here on.
        wide = gate.float() * value.float()
        share = wide.abs().amax(dim=-1, keepdim=True).clamp(min=1)
        return self.wo((wide / share).to(gate.dtype)).float() * share


def buckets_of(distances: Tensor, buckets: int, most: int, *, ahead: bool = True) -> Tensor:
    """How far a token lies behind another -> the number of its bucket (Raffel et al., 2020, 2.1).

    Half are for tokens that lie ahead; without `ahead` these are at distance 0. Near distances have
    one each, those up to `most` share the rest evenly in the logarithm, in float32, whose rounding
    decides at the edges.
    """
    if not ahead:
        distances, buckets = distances.clamp(max=0), 2 * buckets
    half, near = buckets // 2, buckets // 4
    away = distances.abs()
    grown = torch.log(away.clamp(min=1).float() / near) / log(most / near) * (half - near)
    far = (near + grown.long()).clamp(max=half - 1)
    return half * (distances > 0) + torch.where(away < near, away, far)
