"""OFA (Wang et al., 2022): one for all. Captioning and pointing are one sequence to another, and a
place is a word: each coordinate of a box is one of `bins` location words (section 3.2).

    encoder: the picture's rows, an instruction, what is asked for;  decoder: words, or four bins
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from diptych.models.captioners.captioner import Captioner
from diptych.models.captioners.sim_vlm import EncoderDecoder

CAPTION, POINT = 0, 1  # instructions


@dataclass(frozen=True, kw_only=True)
class OFAConfig:
    """`vocabulary` of words, behind which come `bins` location words (1000 in the paper) and two
    instructions; `places`: rows of a picture; `length`: the most words."""

    vocabulary: int = 128
    bins: int = 64
    grid_width: int = 96
    places: int = 64
    length: int = 32
    width: int = 96
    head_dim: int = 32
    encoder_depth: int = 2
    decoder_depth: int = 2

    @classmethod
    def tiny(cls, **changes: Any) -> OFAConfig:
        small = cls(
            vocabulary=20, bins=5, grid_width=6, places=9, length=16, width=16, head_dim=8,
            encoder_depth=1, decoder_depth=1,
        )  # fmt: skip
        return replace(small, **changes)


class OFA(Captioner):
    """sees grid [B, N, C]."""

    def __init__(self, config: OFAConfig):
        super().__init__()
        self.config, width = config, config.width
        self.picture_in = nn.Linear(config.grid_width, width)
        self.place_position = nn.Parameter(torch.randn(config.places, width) * 0.02)
        self.token_embedding = nn.Embedding(config.vocabulary + config.bins + 2, width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.position = nn.Parameter(torch.randn(config.length, width) * 0.02)
        depths = config.encoder_depth, config.decoder_depth
        self.body = EncoderDecoder(width, config.head_dim, *depths)

    def embedded(self, tokens: Tensor) -> Tensor:
        """tokens [B, L] -> [B, L, D]"""
        return self.token_embedding(tokens) + self.position[: tokens.shape[1]]

    def asked(self, grid: Tensor, instruction: int, words: Tensor) -> Tensor:
        """grid [B, N, C], one of the instructions, words [B, A] -> what was encoded [B, M, D]"""
        picture = self.picture_in(grid) + self.place_position
        number = self.config.vocabulary + self.config.bins + instruction
        told = torch.cat([words.new_full((len(words), 1), number), words], dim=1)
        return self.body.encode(torch.cat([picture, self.embedded(told).to(picture.dtype)], dim=1))

    def look(self, grid: Tensor) -> Tensor:
        """grid [B, N, C] -> what was encoded to be captioned [B, N + 1, D]"""
        nothing = torch.zeros(len(grid), 0, dtype=torch.int64, device=grid.device)
        return self.asked(grid, CAPTION, nothing)

    def say(self, memory: Tensor, tokens: Tensor) -> Tensor:
        """encoded [B, M, D], tokens [B, L] -> logits of the next [B, L, V + bins + 2]"""
        states = self.body.decode(self.embedded(tokens), memory)
        return states @ self.token_embedding.weight.T.to(states.dtype)

    def bins_of(self, boxes: Tensor) -> Tensor:
        """boxes [..., 4] (center, width, height; 0..1) -> location words of left, top, right and
        bottom [..., 4]"""
        corners = torch.cat(
            [boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], dim=-1
        )
        bins = (corners.clamp(0, 1) * (self.config.bins - 1)).round().long()
        return bins + self.config.vocabulary

    def boxes_of(self, words: Tensor) -> Tensor:
        """Four location words [B, 4] -> boxes [B, 4]; what is no location counts as the nearest"""
        bins = (words - self.config.vocabulary).clamp(0, self.config.bins - 1)
        low, high = (bins.float() / (self.config.bins - 1)).chunk(2, dim=-1)
        return torch.cat([(low + high) / 2, (high - low).clamp(min=0)], dim=-1)
