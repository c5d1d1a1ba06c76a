"""Show, Attend and Tell (Xu et al., 2015): an LSTM that looks anew before each word.

    e(t, i) = w . tanh(W_a a(i) + W_h h(t-1));  alpha = softmax(e)       (equations 4, 5)
    z(t) = beta(t) sum_i alpha(t, i) a(i),  beta = sigmoid(f_beta(h(t-1)))   (section 4.2.1)
    h(t) = LSTM([E y(t-1), z(t)], h(t-1))                                (equations 1 to 3)
    p(y(t)) = softmax(L_o (E y(t-1) + L_h h(t) + L_z z(t)))              (equation 7)

Its loss adds lambda sum_i (1 - sum_t alpha(t, i))^2: by the end each place has been looked at
(equation 14).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diptych.models.captioners.captioner import Recurrent


@dataclass(frozen=True, kw_only=True)
class ShowAttendTellConfig:
    """`width` of words and state, `attention_width` of the small network that scores places."""

    vocabulary: int = 128
    grid_width: int = 96
    width: int = 160
    attention_width: int = 64

    @classmethod
    def tiny(cls, **changes: Any) -> ShowAttendTellConfig:
        return replace(cls(vocabulary=20, grid_width=6, width=12, attention_width=8), **changes)


class Looking(NamedTuple):
    """Places [B, N, C], their scores' part that stays [B, N, A], state and cell [B, D], and the
    last attention [B, N]."""

    places: Tensor
    keys: Tensor
    h: Tensor
    c: Tensor
    alpha: Tensor


class ShowAttendTell(Recurrent):
    """sees grid [B, N, C]."""

    def __init__(self, config: ShowAttendTellConfig):
        super().__init__()
        self.config, width, places = config, config.width, config.grid_width
        self.token_embedding = nn.Embedding(config.vocabulary, width)
        self.first_h, self.first_c = nn.Linear(places, width), nn.Linear(places, width)
        self.key = nn.Linear(places, config.attention_width)
        self.query = nn.Linear(width, config.attention_width)
        self.score = nn.Linear(config.attention_width, 1, bias=False)
        self.gate = nn.Linear(width, 1)
        self.cell = nn.LSTMCell(width + places, width)
        self.state_out, self.look_out = nn.Linear(width, width), nn.Linear(places, width)
        self.head = nn.Linear(width, config.vocabulary)

    def look(self, grid: Tensor) -> Looking:
        """grid [B, N, C] -> the first state, from the mean of all places"""
        mean = grid.mean(1)
        h, c = self.first_h(mean).tanh(), self.first_c(mean).tanh()
        return Looking(grid, self.key(grid), h, c, grid.new_zeros(grid.shape[:2]))

    def step(self, memory: Looking, tokens: Tensor) -> tuple[Tensor, Looking]:
        """memory, tokens so far [B, N] -> logits of the next [B, V], next memory"""
        places, keys, h, c, _ = memory
        word = self.token_embedding(tokens[:, -1])
        scores = self.score((keys + self.query(h)[:, None]).tanh())[..., 0]
        alpha = scores.float().softmax(dim=-1)
        seen = (alpha[:, None].to(places.dtype) @ places)[:, 0]
        seen = self.gate(h).sigmoid() * seen
        h, c = self.cell(torch.cat([word, seen], dim=-1), (h, c))
        logits = self.head(word + self.state_out(h) + self.look_out(seen))
        return logits, Looking(places, keys, h, c, alpha)

    def attended(self, grid: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """grid [B, N, C], tokens [B, L] -> logits [B, L, V], attention of each word [B, L, N]"""
        return attended(self, self.look(grid), tokens)


def attended(network: Any, memory: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [B, L, V] of a captioner whose memory has `alpha`, and those alphas [B, L, N]."""
    logits, alphas = [], []
    for place in range(tokens.shape[1]):
        here, memory = network.step(memory, tokens[:, : place + 1])
        logits.append(here)
        alphas.append(memory.alpha)
    return torch.stack(logits, dim=1), torch.stack(alphas, dim=1)
