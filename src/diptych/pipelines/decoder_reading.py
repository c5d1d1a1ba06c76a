"""A decoder and its words, as the loop of words asks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.decoding.slots import KVShape, KVView
from diptych.models.classic_decoder import ClassicDecoder
from diptych.models.decoder import Decoder
from diptych.pipelines.reading import Rows


@dataclass(frozen=True, eq=False)
class DecoderReading:
    """`Reading` of a language model. `decode`: a tokenizer's, of a run of tokens."""

    decoder: Decoder | ClassicDecoder
    ends: tuple[int, ...]
    decode: Callable[[Sequence[int]], str]

    @property
    def kv(self) -> KVShape:
        """As `Reading`."""
        return self.decoder.config.kv

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.decoder.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return next(self.decoder.parameters()).device

    def embed(self, tokens: Tensor) -> Tensor:
        """[N] -> [N, D]"""
        return self.decoder.embed(tokens)

    def read(self, rows: Tensor, places: Tensor, view: KVView) -> Tensor:
        """Rows [B, N, D] at places [B, N] or [B, N, 3] -> states [B, N, D]"""
        return self.decoder.read(rows, places, view)

    def step(self, rows: Tensor, places: Tensor, view: KVView, calls: int = 0) -> Tensor:
        """As `Reading`."""
        return self.decoder.step(rows, places, view, calls)

    def logits(self, states: Tensor) -> Tensor:
        """[..., D] -> [..., V]"""
        return self.decoder.logits(states)

    def spell(self, tokens: Sequence[int]) -> str:
        """Tokens as text, special ones left out."""
        return self.decode(tokens)

    def words(self, tokens: Sequence[int], first: int = 0) -> Rows:
        """Rows of words alone, from place `first` on."""
        ids = torch.tensor(list(tokens), dtype=torch.int64, device=self.device)
        places = torch.arange(first, first + len(ids), device=self.device)
        return Rows(self.embed(ids), places, first + len(ids))
