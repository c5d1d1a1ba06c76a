"""Gemma's tokenizer: byte pairs over words with their spaces. `tokenizers` does the work; the
vocabulary comes from a folder, for none comes with the package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.foundation.errors import Unreadable
from diptych.text.clip_bpe import Token
from diptych.text.hub_tokenizer import tokenizer_of
from diptych.text.prompts import Part, Tokens, weight_of, whole_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

START = "<bos>"


class GemmaTokenizer:
    """Texts to numbers. Safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer):
        """Raises Unreadable for a vocabulary without the mark of a text's start."""
        start = tokenizer.token_to_id(START)
        if start is None:
            raise Unreadable(f"The vocabulary lacks {START!r}.", do="Is it Gemma's?")
        self._tokenizer, self.start = tokenizer, start

    @classmethod
    def load(cls, folder: Path) -> GemmaTokenizer:
        """From `tokenizer.json`. Raises NotFound, Unreadable."""
        return cls(tokenizer_of(folder))

    def encode(self, text: str) -> list[Token]:
        """All tokens of a text, without the mark of its start."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        return [
            Token(number, *place)
            for number, place in zip(encoded.ids, encoded.offsets, strict=True)
        ]


def gemma_tokens(parts: Sequence[Part], tokenizer: GemmaTokenizer, length: int) -> Tokens:
    """One row, the mark of its start and the whole text, without padding; what finds no room in
    `length` is returned. Weights and breaks as in `t5_tokens`."""
    text, weights = whole_text(parts)
    words = tokenizer.encode(text)
    kept, rest = words[: length - 1], words[length - 1 :]
    return Tokens(
        ((tokenizer.start, *(word.number for word in kept)),),
        ((1.0, *(weight_of(word, text, weights) for word in kept)),),
        text[rest[0].begin :].strip() if rest else "",
    )
