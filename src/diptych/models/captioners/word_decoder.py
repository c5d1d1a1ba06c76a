"""A small GPT-2 (Radford et al., 2019): blocks of causal attention over words, tied to its output,
with positions that are learned; between its blocks others may put in what they see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from diptych.nn.attention import attend, join_heads, split_heads
from diptych.nn.blocks import Block
from diptych.nn.norms import RMSNorm


@dataclass(frozen=True, kw_only=True)
class WordDecoderConfig:
    """`length`: the most rows, those of a prefix included."""

    vocabulary: int = 128
    length: int = 96
    width: int = 128
    depth: int = 3
    head_dim: int = 32

    @classmethod
    def tiny(cls, **changes: Any) -> WordDecoderConfig:
        return replace(cls(vocabulary=20, length=16, width=32, depth=2, head_dim=16), **changes)


class WordDecoder(nn.Module):
    """tokens [B, L] -> logits of the next [B, L, V]"""

    def __init__(self, config: WordDecoderConfig):
        super().__init__()
        self.config, width = config, config.width
        self.token_embedding = nn.Embedding(config.vocabulary, width)
        self.position = nn.Parameter(torch.randn(config.length, width) * 0.02)
        # Tied to the output: at a standard deviation of 1 the first logits would be wild.
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.blocks = nn.ModuleList(
            Block(width, config.head_dim, 4 * width) for _ in range(config.depth)
        )
        self.norm = RMSNorm(width)

    def decode(
        self, rows: Tensor, between: Callable[[int, Tensor], Tensor] | None = None
    ) -> Tensor:
        """rows [B, N, D] -> states [B, N, D], each of those before it and itself.

        `between(number, h)` is asked before block `number`, as Flamingo's layers want it.
        """
        count = rows.shape[1]
        h = rows + self.position[:count]
        mask = torch.ones(count, count, dtype=torch.bool, device=rows.device).tril()
        for number, block in enumerate(self.blocks):
            h = h if between is None else between(number, h)
            h = block(h, None, mask)
        return self.norm(h)

    def logits(self, states: Tensor) -> Tensor:
        """states [..., D] -> logits [..., V]"""
        return states @ self.token_embedding.weight.T.to(states.dtype)

    def after(self, prefix: Tensor, tokens: Tensor) -> Tensor:
        """prefix [B, P, D] that stands for words, tokens [B, L] -> logits of the next [B, L, V]"""
        rows = torch.cat([prefix, self.token_embedding(tokens).to(prefix.dtype)], dim=1)
        return self.logits(self.decode(rows)[:, prefix.shape[1] :])

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, L] -> logits of the next [B, L, V]"""
        return self.logits(self.decode(self.token_embedding(tokens)))


class CrossAttention(nn.Module):
    """Rows of one sequence look at those of another, of another width."""

    def __init__(self, width: int, seen_width: int, head_dim: int):
        super().__init__()
        self.head_dim = head_dim
        self.norm = RMSNorm(width)
        self.query, self.kv = nn.Linear(width, width), nn.Linear(seen_width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, seen: Tensor, mask: Tensor | None = None) -> Tensor:
        """x [B, N, D], seen [B, M, E], mask [B, 1, N, M] (True: may look) -> [B, N, D]"""
        k, v = (split_heads(part, self.head_dim) for part in self.kv(seen).chunk(2, dim=-1))
        q = split_heads(self.query(self.norm(x)), self.head_dim)
        return self.out(join_heads(attend(q, k, v, mask)))
