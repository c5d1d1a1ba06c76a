"""Show and Tell (Vinyals et al., 2015): the picture is the first word that an LSTM reads.

x(-1) = W_I CNN(I)              the pooled picture, once             (equation 10)
x(t)  = W_e S(t)                each word after it                   (equation 11)
p(t+1) = softmax(W LSTM(x(t)))                                       (equation 12)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from diptych.models.captioners.captioner import Recurrent

State = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class ShowAndTellConfig:
    """`width` of words and state: 512 in the paper."""

    vocabulary: int = 128
    picture_width: int = 96
    width: int = 192

    @classmethod
    def tiny(cls, **changes: Any) -> ShowAndTellConfig:
        return replace(cls(vocabulary=20, picture_width=6, width=12), **changes)


class ShowAndTell(Recurrent):
    """sees pooled [B, C], the mean of a grid of features."""

    sees = ("pooled",)

    def __init__(self, config: ShowAndTellConfig):
        super().__init__()
        self.config = config
        self.picture_in = nn.Linear(config.picture_width, config.width)
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.cell = nn.LSTMCell(config.width, config.width)
        self.head = nn.Linear(config.width, config.vocabulary)

    def look(self, pooled: Tensor) -> State:
        """pooled [B, C] -> state and cell of the LSTM [B, D]"""
        return self.cell(self.picture_in(pooled))

    def step(self, memory: State, tokens: Tensor) -> tuple[Tensor, State]:
        """state, tokens so far [B, N] -> logits of the next [B, V], next state"""
        h, c = self.cell(self.token_embedding(tokens[:, -1]), memory)
        return self.head(h), (h, c)
