"""ViLBERT (Lu et al., 2019): a stream of words and a stream of regions, which look at each other by
exchanging keys and values (figure 2).

    words = words + attention(Q words, K regions, V regions);  and the other way round, at once

Whether a text belongs to a picture is told from the product of the first word's state and of the
whole picture's (section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from diptych.models.captioners.uniter import Regions
from diptych.models.captioners.word_decoder import CrossAttention
from diptych.nn.blocks import MLP, Block, RowLinear
from diptych.nn.norms import RMSNorm


@dataclass(frozen=True, kw_only=True)
class ViLBERTConfig:
    """`text_depth`: blocks of words alone before they meet; `depth`: pairs of looking at each other
    and at oneself."""

    vocabulary: int = 128
    region_width: int = 96
    length: int = 32
    width: int = 96
    head_dim: int = 32
    text_depth: int = 1
    depth: int = 2

    @classmethod
    def tiny(cls, **changes: Any) -> ViLBERTConfig:
        small = cls(vocabulary=20, region_width=6, length=8, width=16, head_dim=8, depth=1)
        return replace(small, **changes)


class Stream(nn.Module):
    """One side of a layer: it looks at the other stream, then at itself."""

    def __init__(self, width: int, head_dim: int):
        super().__init__()
        self.crossing = CrossAttention(width, width, head_dim)
        self.norm, self.mlp = RMSNorm(width), MLP(width, 4 * width)
        self.block = Block(width, head_dim, 4 * width)

    def forward(self, h: Tensor, other: Tensor, own_mask: Tensor, other_mask: Tensor) -> Tensor:
        """h [B, N, D], other [B, M, D], masks [B, 1, 1, N] and [B, 1, 1, M] -> [B, N, D]"""
        h = h + self.crossing(h, other, other_mask)
        h = h + self.mlp(self.norm(h))
        return self.block(h, None, own_mask)


class ViLBERT(nn.Module):
    """sees regions [B, R, C] and boxes [B, R, 4]; the mean of all regions is the picture."""

    sees = ("regions", "boxes")

    def __init__(self, config: ViLBERTConfig):
        super().__init__()
        self.config, width, head_dim = config, config.width, config.head_dim
        self.token_embedding = nn.Embedding(config.vocabulary, width)
        self.position = nn.Parameter(torch.randn(config.length, width) * 0.02)
        self.regions = Regions(config.region_width, width)
        self.text_blocks = nn.ModuleList(
            Block(width, head_dim, 4 * width) for _ in range(config.text_depth)
        )
        self.words = nn.ModuleList(Stream(width, head_dim) for _ in range(config.depth))
        self.pictures = nn.ModuleList(Stream(width, head_dim) for _ in range(config.depth))
        self.word_norm, self.picture_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.word_head, self.match_head = nn.Linear(width, config.vocabulary), RowLinear(width, 1)

    def forward(
        self, tokens: Tensor, mask: Tensor, regions: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """tokens, mask [B, L] (True: a token), regions [B, R, C], boxes [B, R, 4] -> logits of
        whether they belong together [B], and of each word [B, L, V]"""
        words = self.token_embedding(tokens) + self.position[: tokens.shape[1]]
        there = mask[:, None, None]
        for block in self.text_blocks:
            words = block(words, None, there)
        whole = torch.cat([regions.mean(1, keepdim=True), regions], dim=1)
        around = boxes.new_tensor([0.5, 0.5, 1.0, 1.0]).expand(len(boxes), 1, 4)
        seen = self.regions(whole, torch.cat([around, boxes], dim=1))
        all_seen = mask.new_ones(len(mask), 1, 1, 1)
        for of_words, of_pictures in zip(self.words, self.pictures, strict=True):
            told, shown = cast(Stream, of_words), cast(Stream, of_pictures)
            before = words  # both look at what the other was
            words = told(words, seen, there, all_seen)
            seen = shown(seen, before, all_seen, there)
        words, seen = self.word_norm(words), self.picture_norm(seen)
        return self.match_head(words[:, 0] * seen[:, 0])[:, 0], self.word_head(words)
