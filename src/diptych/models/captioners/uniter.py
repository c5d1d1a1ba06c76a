"""UNITER (Chen et al., 2020): words and regions in one stream of one transformer.

    word = LN(embedding + position)
    region = LN(LN(W_v v) + LN(W_b [x1, y1, x2, y2, w, h, w h]))        (section 3.1)

It does not speak: masked words are guessed, and whether a text belongs to a picture is told from
the first token's state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from diptych.nn.blocks import Block, RowLinear


@dataclass(frozen=True, kw_only=True)
class UNITERConfig:
    """`length`: the most words."""

    vocabulary: int = 128
    region_width: int = 96
    length: int = 32
    width: int = 96
    head_dim: int = 32
    depth: int = 3

    @classmethod
    def tiny(cls, **changes: Any) -> UNITERConfig:
        small = cls(vocabulary=20, region_width=6, length=8, width=16, head_dim=8, depth=1)
        return replace(small, **changes)


class Regions(nn.Module):
    """What a box shows and where it lies, as one vector."""

    def __init__(self, region_width: int, width: int):
        super().__init__()
        self.region_in, self.region_norm = nn.Linear(region_width, width), nn.LayerNorm(width)
        self.box_in, self.box_norm = nn.Linear(7, width), nn.LayerNorm(width)
        self.norm = nn.LayerNorm(width)

    def forward(self, regions: Tensor, boxes: Tensor) -> Tensor:
        """regions [B, R, C], boxes [B, R, 4] (center, width, height; 0..1) -> [B, R, D]"""
        seen = self.region_norm(self.region_in(regions))
        return self.norm(seen + self.box_norm(self.box_in(seven(boxes))))


class UNITER(nn.Module):
    """sees regions [B, R, C] and boxes [B, R, 4]."""

    sees = ("regions", "boxes")

    def __init__(self, config: UNITERConfig):
        super().__init__()
        self.config, width = config, config.width
        self.token_embedding = nn.Embedding(config.vocabulary, width)
        self.position = nn.Parameter(torch.randn(config.length, width) * 0.02)
        self.word_norm = nn.LayerNorm(width)
        self.regions = Regions(config.region_width, width)
        self.blocks = nn.ModuleList(
            Block(width, config.head_dim, 4 * width) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.word_head, self.match_head = nn.Linear(width, config.vocabulary), RowLinear(width, 1)

    def forward(
        self, tokens: Tensor, mask: Tensor, regions: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """tokens, mask [B, L] (True: a token), regions [B, R, C], boxes [B, R, 4] -> logits of
        whether they belong together [B], and of each word [B, L, V]"""
        words = self.word_norm(self.token_embedding(tokens) + self.position[: tokens.shape[1]])
        h = torch.cat([words, self.regions(regions, boxes)], dim=1)
        there = torch.cat([mask, mask.new_ones(regions.shape[:2])], dim=1)[:, None, None]
        for block in self.blocks:
            h = block(h, None, there)
        h = self.norm(h)
        return self.match_head(h[:, 0])[:, 0], self.word_head(h[:, : tokens.shape[1]])


def seven(boxes: Tensor) -> Tensor:
    """center, width, height [..., 4] -> left, top, right, bottom, width, height, area [..., 7]"""
    half = boxes[..., 2:] / 2
    area = boxes[..., 2:].prod(-1, keepdim=True)
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half, boxes[..., 2:], area], dim=-1)
