"""The Q-Former (Li et al., 2023, BLIP-2, section 3.1): learnt queries see each other, a question
(Dai et al., 2023, InstructBLIP) and, every so many layers, a picture."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from diptych.models.classic_config import ClassicConfig
from diptych.models.classic_layer import ClassicAttention, ClassicMLP, norm_of
from diptych.nn.attention import attend, join_heads, split_heads

_LAYERS = ClassicConfig(
    vocabulary=30_522, activation="gelu", positions=512, post_norm=True, embed_norm=True,
    final_norm=False, norm_epsilon=1e-12, memory=1408,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class QFormerConfig:
    """`layers`: BERT's, without words and places where no question is read; `each`: every so many,
    from the first on, see the picture."""

    layers: ClassicConfig = field(
        default_factory=lambda: replace(_LAYERS, vocabulary=0, positions=0)
    )
    queries: int = 32
    each: int = 2

    @classmethod
    def tiny(cls, **changes: Any) -> QFormerConfig:
        layers = replace(
            _LAYERS, width=24, depth=2, heads=3, head_dim=8, hidden=40, memory=20, vocabulary=40,
            positions=32,
        )  # fmt: skip
        return replace(cls(layers=layers, queries=4), **changes)


class QFormer(nn.Module):
    """A picture's states, and a question, to as many rows as there are queries."""

    def __init__(self, config: QFormerConfig):
        super().__init__()
        self.config, layers = config, config.layers
        self.queries = nn.Parameter(torch.randn(config.queries, layers.width) * 0.02)
        words = layers.vocabulary
        self.embed_tokens = nn.Embedding(words, layers.width) if words else None
        self.embed_positions = nn.Embedding(layers.positions, layers.width) if words else None
        self.embed_norm = norm_of(layers)
        self.layers = nn.ModuleList(
            _Layer(layers, crosses=i % config.each == 0) for i in range(layers.depth)
        )

    def forward(self, seen: Tensor, tokens: Tensor | None = None) -> Tensor:
        """seen [B, N, E], tokens [B, L] of a question -> [B, queries, D]"""
        h = self.queries.expand(len(seen), -1, -1)
        if tokens is not None and self.embed_tokens is not None:
            places = cast(nn.Embedding, self.embed_positions).weight[: tokens.shape[1]]
            h = torch.cat([h, self.embed_tokens(tokens) + places], dim=1)
        h = self.embed_norm(h)
        for layer in self.layers:
            h = layer(h, seen, self.config.queries)
        return h[:, : self.config.queries]


class _Layer(nn.Module):
    def __init__(self, config: ClassicConfig, *, crosses: bool):
        super().__init__()
        self.self_attn, self.self_norm = ClassicAttention(config, config.width), norm_of(config)
        self.cross_attn = ClassicAttention(config, config.memory) if crosses else None
        self.cross_norm = norm_of(config) if crosses else None
        self.mlp, self.mlp_norm = ClassicMLP(config), norm_of(config)
        reads = config.vocabulary > 0
        self.text_mlp = ClassicMLP(config) if reads else None
        self.text_norm = norm_of(config) if reads else None

    def forward(self, h: Tensor, seen: Tensor, queries: int) -> Tensor:
        """h [B, queries + L, D], seen [B, N, E] -> the same shape as h"""
        looked = self.self_attn.o_proj(join_heads(attend(*self.self_attn.heads(h))))
        h = self.self_norm(h + looked)
        asked, words = h[:, :queries], h[:, queries:]
        if self.cross_attn is not None and self.cross_norm is not None:
            attention = self.cross_attn
            q = split_heads(attention.q_proj(asked), attention.head_dim)
            looked = attention.o_proj(join_heads(attend(q, *attention.memory(seen))))
            asked = self.cross_norm(asked + looked)
        asked = self.mlp_norm(asked + self.mlp(asked))
        if self.text_mlp is None or self.text_norm is None or not words.shape[1]:
            return asked
        return torch.cat([asked, self.text_norm(words + self.text_mlp(words))], dim=1)
