"""SigLIP's tokenizers: pieces of a unigram model for the first, Gemma's byte pairs for SigLIP 2.
`tokenizers` does the work; the vocabulary comes from a folder, for none comes with the package."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from diptych.foundation.errors import NotFound, Unreadable

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# By the kind of model: the marks of end and padding, and whether texts lose their punctuation.
_MARKS = {"Unigram": ("</s>", "</s>", True), "BPE": ("<eos>", "<pad>", False)}
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class SiglipTokenizer:
    """Texts to numbers. Safe to share between threads.

    All texts are lower-cased, as in training; those of the first SigLIP also lose their
    punctuation (the authors' canonical form).
    """

    def __init__(self, tokenizer: Tokenizer, *, end: str, pad: str, plain: bool):
        """`plain`: without punctuation. Raises Unreadable for a vocabulary that lacks a mark."""
        lacking = [mark for mark in (end, pad) if tokenizer.token_to_id(mark) is None]
        if lacking:
            raise Unreadable(f"The vocabulary lacks {lacking[0]!r}.", do="Is it SigLIP's?")
        # Some files say that rows are to be padded or cut: that is done by who asks.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer, self._plain = tokenizer, plain
        self.end, self.pad = (cast(int, tokenizer.token_to_id(mark)) for mark in (end, pad))

    @classmethod
    def load(cls, folder: Path) -> SiglipTokenizer:
        """From `tokenizer.json`. Raises NotFound, Unreadable."""
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise NotFound(
                f"There is no tokenizer.json in {str(folder)!r}, and SigLIP's words come with no "
                "package.",
                do="Copy the one of the model's repository there.",
            )
        kind = _model_type(path)
        if kind not in _MARKS:
            raise Unreadable(
                f"{str(path)!r} is not SigLIP's tokenizer: its model is {kind or 'none'}."
            )
        end, pad, plain = _MARKS[kind]
        try:
            return cls(Tokenizer.from_file(str(path)), end=end, pad=pad, plain=plain)
        except Unreadable:
            raise
        except Exception as error:  # the library raises bare exceptions of its own
            raise Unreadable(f"{str(path)!r} is no tokenizer: {error}.") from error

    def encode(self, text: str) -> list[int]:
        """All numbers of a text, without a mark of its end and without padding."""
        return self._tokenizer.encode(self.canonical(text), add_special_tokens=False).ids

    def canonical(self, text: str) -> str:
        """The text as it is cut into pieces."""
        text = text.lower()
        if not self._plain:
            return text
        return re.sub(r"\s+", " ", text.translate(_NO_PUNCTUATION)).strip()


def _model_type(path: Path) -> str:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unreadable(f"{str(path)!r} cannot be read: {error}.") from error
    model = cast(dict[str, Any], content).get("model") if isinstance(content, dict) else None
    return str(cast(dict[str, Any], model).get("type", "")) if isinstance(model, dict) else ""
