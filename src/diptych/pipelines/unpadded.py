"""Words for families that read them behind a mask (PixArt, Lumina): without any padding, which is
the same, and each prompt by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from diptych.foundation.errors import InvalidValue
from diptych.models.gemma_encoder import GemmaEncoder
from diptych.models.t5_encoder import T5Encoder
from diptych.pipelines.conditioning import Reading, weighted
from diptych.text.gemma_tokenizer import GemmaTokenizer, gemma_tokens
from diptych.text.prompts import Part, Piece, Tokens, parse, plain
from diptych.text.t5_tokenizer import T5Tokenizer, t5_tokens


class Reader(Protocol):
    """A tokenizer and what reads its numbers."""

    @property
    def network(self) -> nn.Module: ...

    def tokens(self, parts: Sequence[Part], length: int) -> Tokens:
        """One row, `length` at most."""
        ...

    def states(self, tokens: Tensor) -> Tensor:
        """tokens [1, L] -> [1, L, D]"""
        ...


@dataclass(frozen=True)
class T5Reader:
    """T5's last states."""

    network: T5Encoder
    tokenizer: T5Tokenizer

    def tokens(self, parts: Sequence[Part], length: int) -> Tokens:
        return t5_tokens(parts, self.tokenizer, range(1, length + 1))

    def states(self, tokens: Tensor) -> Tensor:
        return self.network(tokens)


@dataclass(frozen=True)
class GemmaReader:
    """Gemma's states before its last layer."""

    network: GemmaEncoder
    tokenizer: GemmaTokenizer

    def tokens(self, parts: Sequence[Part], length: int) -> Tokens:
        return gemma_tokens(parts, self.tokenizer, length)

    def states(self, tokens: Tensor) -> Tensor:
        return self.network(tokens).layers[-2]


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a family reads: `length` tokens at most, words in small letters if `lower`, `before`
    written before a prompt, and not before what to keep away from."""

    length: int
    lower: bool = False
    before: str = ""


@torch.no_grad()
def read(
    reader: Reader, manner: Manner, text: str, reading: Reading, *, negative: bool = False
) -> Tensor:
    """A text's states, [1, L, D]. Raises InvalidValue for a text that finds no room, unless
    `reading.most` says that it may be cut, and for layers to be skipped."""
    if reading.clip_skip:
        raise InvalidValue("This family's words have no layers to skip.", do="Leave clip_skip out.")
    text = text.lower().strip() if manner.lower else text
    parts = parse(text) if reading.syntax else plain(text)
    if manner.before and not negative:
        parts = ((Piece(manner.before), *parts[0]), *parts[1:])
    found = reader.tokens(parts, manner.length)
    if found.truncated and reading.most is None:
        raise InvalidValue(
            f"This family reads {manner.length} tokens: {found.truncated!r} finds no room.",
            do="Say it shorter.",
        )
    device = next(reader.network.parameters()).device
    z = reader.states(torch.tensor(found.ids, device=device))
    return weighted(z, found.weights[0], reading.mean_restored)
