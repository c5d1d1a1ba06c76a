"""The language models of before LLaMA, by flags: GPT-2 (Radford et al., 2019), OPT (Zhang et al.,
2022), BERT as a decoder (Li et al., 2022, BLIP), T5 (Raffel et al., 2020) and BART (Lewis et al.,
2020); and the encoders that have the same layers.

With cross-attention, what is looked at besides the words is kept once a picture: `remember` puts
its keys and values into a slot, before those of the words.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from diptych.decoding.slots import KVView
from diptych.models.classic_config import ClassicConfig
from diptych.models.classic_layer import ClassicLayer, WordHead, causal, norm_of
from diptych.models.classic_sight import Kept, Whole
from diptych.models.t5_encoder import buckets_of
from diptych.nn.fused import Fused


class ClassicStack(nn.Module):
    """Rows of words to states. By itself an encoder: all rows see one another."""

    ahead = True  # words that come behind are seen, and have buckets

    def __init__(self, config: ClassicConfig):
        super().__init__()
        self.config, width = config, config.width
        words, places = config.vocabulary, config.positions
        self.embed_tokens = nn.Embedding(words, width) if words else None
        self.embed_positions = nn.Embedding(places + config.offset, width) if places else None
        self.embed_norm = norm_of(config) if config.embed_norm else None
        self.distances = nn.Embedding(config.buckets, config.heads) if config.buckets else None
        self.layers = nn.ModuleList(ClassicLayer(config, i) for i in range(config.depth))
        self.norm = norm_of(config) if config.final_norm else None
        for table in (self.embed_tokens, self.embed_positions):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)

    def embed(self, tokens: Tensor) -> Tensor:
        """tokens [..., N] int64 -> rows [..., N, D], not placed yet. Raises ValueError for a
        network without words."""
        if self.embed_tokens is None:
            raise ValueError("this network has no words of its own")
        rows = self.embed_tokens(tokens)
        return rows * self.config.width**0.5 if self.config.grown else rows

    def placed(self, rows: Tensor, places: Tensor) -> Tensor:
        """rows [B, N, D] at places [B or 1, N] with what embeds a place. Rows at places below 0 are
        states already, and stay as they are."""
        h = rows
        if self.embed_positions is not None:
            h = h + self.embed_positions(places.clamp(min=0) + self.config.offset)
        if self.embed_norm is not None:
            h = self.embed_norm(h)
        states = places < 0
        return torch.where(states[..., None], rows, h) if bool(states.any()) else h

    def added(self, mine: Tensor, seen: Tensor) -> Tensor:
        """places of words that look [N] and that are seen [M] -> what their distance adds to
        scores [H, N, M]."""
        assert self.distances is not None
        config, away = self.config, seen - mine[:, None]
        table = buckets_of(away, config.buckets, config.distance, ahead=self.ahead)
        return self.distances(table).permute(2, 0, 1)

    def forward(
        self,
        rows: Tensor,
        *,
        places: Tensor | None = None,
        mask: Tensor | None = None,
        memory: Tensor | None = None,
        filled: Tensor | None = None,
    ) -> Tensor:
        """rows [B, N, D] at places [B or 1, N] (None: 0..N-1) -> states [B, N, D].

        `mask` [B or 1, 1, N or 1, N] (True: may look; None: all). `memory` [B, M, E] is looked at
        besides, of which `filled` [B, M] may be seen (None: all)."""
        count = rows.shape[1]
        if places is None:
            places = torch.arange(count, device=rows.device)[None]
        seen = mask
        if self.distances is not None:
            words = torch.arange(count, device=rows.device)
            seen = self.added(words, words)[None]
            seen = seen if mask is None else seen.masked_fill(~mask, float("-inf"))
        open_ = None if filled is None else filled[:, None, None]
        h = self.placed(rows, places)
        for layer in self.layers:
            h = layer(h, Whole(seen, memory, open_))
        return h if self.norm is None else self.norm(h)


class ClassicDecoder(ClassicStack):
    """Rows see the rows before them; states become logits."""

    ahead = False

    def __init__(self, config: ClassicConfig):
        super().__init__(config)
        self.transform = WordHead(config) if config.transform else None
        words, width = config.vocabulary, config.width
        self.lm_head = None if config.tied else nn.Linear(width, words, bias=False)
        self.head_bias = nn.Parameter(torch.zeros(words)) if config.head_bias else None
        self.head: Fused | None = None

    @property
    def words(self) -> nn.Embedding:
        """The table of words."""
        assert self.embed_tokens is not None
        return self.embed_tokens

    def forward(
        self,
        rows: Tensor,
        *,
        places: Tensor | None = None,
        mask: Tensor | None = None,
        memory: Tensor | None = None,
        filled: Tensor | None = None,
    ) -> Tensor:
        """Whole texts, as `ClassicStack`; without `mask` a row sees the rows before it."""
        if mask is None:
            mask = causal(rows.shape[1], rows.device)
        return super().forward(rows, places=places, mask=mask, memory=memory, filled=filled)

    def read(self, rows: Tensor, places: Tensor, view: KVView) -> Tensor:
        """rows [B, N, D] at places [B, N], behind what is kept -> states [B, N, D]. With
        cross-attention all that is kept before place 0 is looked at besides."""
        return self._through(rows, places, view, 0)

    def step(self, rows: Tensor, places: Tensor, view: KVView, calls: int = 0) -> Tensor:
        """One row of each text: rows [B, D] at places [B] -> states [B, D]. With `calls`, weights
        meet that many rows and a text looks by itself: its bits do not depend on its neighbours.
        States are then [calls, D]."""
        if not calls:
            return self._through(rows[:, None], places[:, None], view, 0)[:, 0]
        if rows.dtype not in (torch.float32, torch.float64):
            each = zip(rows.split(1), places.split(1), view.each(), strict=True)
            alone = torch.cat([self.step(row.clone(), at, own) for row, at, own in each])
            return pad(alone, (0, 0, 0, calls - len(rows)))
        rows = pad(rows, (0, 0, 0, calls - len(rows)))
        return self._through(rows[:, None], places[:, None], view, calls)[:, 0]

    def _through(self, rows: Tensor, places: Tensor, view: KVView, calls: int) -> Tensor:
        sight = Kept(
            view, places, crosses=self.config.memory > 0, calls=calls,
            distances=None if self.distances is None else self.added,
        )  # fmt: skip
        if len(places) < len(rows):
            places = pad(places, (0, 0, 0, len(rows) - len(places)))
        h = self.placed(rows, places)
        for layer in self.layers:
            h = layer(h, sight)
        return h if self.norm is None else self.norm(h)

    def remember(self, memory: Tensor, view: KVView) -> None:
        """memory [B, M, E], which words will look at besides, into empty slots."""
        for number, layer in enumerate(self.layers):
            attention = cast(ClassicLayer, layer).cross_attn
            assert attention is not None
            keys, values = attention.memory(memory)
            view.write(number, keys.transpose(1, 2), values.transpose(1, 2))

    def logits(self, states: Tensor) -> Tensor:
        """states [..., D] -> logits of the next token [..., V]"""
        h = states if self.transform is None else self.transform(states)
        if self.config.shrunk:
            h = h * self.config.width**-0.5
        if self.head is not None:
            logits = self.head(h)
        elif self.lm_head is None:
            logits = h @ self.words.weight.T
        else:
            logits = self.lm_head(h)
        return logits if self.head_bias is None else logits + self.head_bias

    def pack(self) -> None:
        """As `Decoder.pack`."""
        for layer in self.layers:
            cast(ClassicLayer, layer).pack()
        self.head = Fused([self.words if self.lm_head is None else self.lm_head])
