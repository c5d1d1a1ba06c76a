"""Bottom-up and top-down attention (Anderson et al., 2018): what is looked at are the boxes of a
detector, and an LSTM of its own decides where.

    h1(t) = LSTM1([h2(t-1), mean v, W_e y(t-1)], h1(t-1))                (equation 2)
    a(i, t) = w . tanh(W_v v(i) + W_h h1(t));  alpha = softmax(a)        (equations 3, 4)
    h2(t) = LSTM2([sum_i alpha(i, t) v(i), h1(t)], h2(t-1))              (equations 5, 6)
    p(y(t)) = softmax(W_p h2(t))                                         (equation 7)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diptych.models.captioners.captioner import Recurrent
from diptych.models.captioners.show_attend_tell import attended


@dataclass(frozen=True, kw_only=True)
class BottomUpTopDownConfig:
    """`width` of words and states: 1000 in the paper, with 36 regions of 2048."""

    vocabulary: int = 128
    region_width: int = 96
    width: int = 128
    attention_width: int = 64

    @classmethod
    def tiny(cls, **changes: Any) -> BottomUpTopDownConfig:
        return replace(cls(vocabulary=20, region_width=6, width=12, attention_width=8), **changes)


class Looking(NamedTuple):
    """Regions [B, R, C], their scores' part that stays [B, R, A], the states of both LSTMs [B, D],
    and the last attention [B, R]."""

    regions: Tensor
    keys: Tensor
    first: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]
    alpha: Tensor


class BottomUpTopDown(Recurrent):
    """sees regions [B, R, C]."""

    sees = ("regions",)

    def __init__(self, config: BottomUpTopDownConfig):
        super().__init__()
        self.config, width, seen = config, config.width, config.region_width
        self.token_embedding = nn.Embedding(config.vocabulary, width)
        self.attention_cell = nn.LSTMCell(2 * width + seen, width)
        self.key = nn.Linear(seen, config.attention_width)
        self.query = nn.Linear(width, config.attention_width)
        self.score = nn.Linear(config.attention_width, 1, bias=False)
        self.language_cell = nn.LSTMCell(seen + width, width)
        self.head = nn.Linear(width, config.vocabulary)

    def look(self, regions: Tensor) -> Looking:
        """regions [B, R, C] -> states of nothing said yet"""
        nothing = regions.new_zeros(len(regions), self.config.width)
        states = (nothing, nothing)
        alpha = regions.new_zeros(regions.shape[:2])
        return Looking(regions, self.key(regions), states, states, alpha)

    def step(self, memory: Looking, tokens: Tensor) -> tuple[Tensor, Looking]:
        """memory, tokens so far [B, N] -> logits of the next [B, V], next memory"""
        regions, keys, first, second, _ = memory
        word = self.token_embedding(tokens[:, -1])
        first = self.attention_cell(torch.cat([second[0], regions.mean(1), word], dim=-1), first)
        scores = self.score((keys + self.query(first[0])[:, None]).tanh())[..., 0]
        alpha = scores.float().softmax(dim=-1)
        seen = (alpha[:, None].to(regions.dtype) @ regions)[:, 0]
        second = self.language_cell(torch.cat([seen, first[0]], dim=-1), second)
        return self.head(second[0]), Looking(regions, keys, first, second, alpha)

    def attended(self, regions: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """regions [B, R, C], tokens [B, L] -> logits [B, L, V], attention of each word [B, L, R]"""
        return attended(self, self.look(regions), tokens)
