"""T5's tokenizer: pieces of a unigram model (Kudo, 2018). `tokenizers` does the work; the
vocabulary comes from a folder, for none comes with the package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from diptych.foundation.errors import NotFound, Unreadable
from diptych.text.clip_bpe import Token
from diptych.text.prompts import Part, Tokens, weight_of, whole_text
from diptych.text.sentencepiece_model import sentencepiece_model

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
_EXTRA = 100  # words that stand for what was left out in training, numbered from the end
_SPACE = "▁"


class T5Tokenizer:
    """Texts to numbers. Safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer):
        """Raises Unreadable for a vocabulary without the marks of end and padding."""
        numbers = {mark: tokenizer.token_to_id(mark) for mark in (END, PAD)}
        for mark, number in numbers.items():
            if number is None:
                raise Unreadable(f"The vocabulary lacks {mark!r}.", do="Is it T5's?")
        # Some files say that rows are to be padded or cut: that is done here.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self.end, self.pad = cast(int, numbers[END]), cast(int, numbers[PAD])

    @classmethod
    def load(cls, folder: Path) -> T5Tokenizer:
        """From `tokenizer.json`, or else `spiece.model`. Raises NotFound, Unreadable."""
        if (folder / "tokenizer.json").is_file():
            return cls(_of_json(folder / "tokenizer.json"))
        if (folder / "spiece.model").is_file():
            return cls(_of_pieces(folder / "spiece.model"))
        raise NotFound(
            f"{str(folder)!r} holds no tokenizer of T5.",
            do="Put tokenizer.json or spiece.model there.",
        )

    def to_json(self) -> str:
        """The content of `tokenizer.json`."""
        return self._tokenizer.to_str()

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[Token]:
        """All tokens of a text, without a mark of its end and without padding."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        return [
            Token(number, *place)
            for number, place in zip(encoded.ids, encoded.offsets, strict=True)
        ]


def is_t5(folder: Path) -> bool:
    """Whether a folder holds a tokenizer of this kind, and not one of CLIP."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return (folder / "spiece.model").is_file()
    return _model_type(path) == "Unigram"


def t5_tokens(parts: Sequence[Part], tokenizer: T5Tokenizer, lengths: Sequence[int]) -> Tokens:
    """One row: the whole text, the mark of its end, padding. It has the shortest of `lengths` that
    holds it; what finds no room in the longest is returned.

    The text is cut into tokens as if it had no weights: a token has the weight of its first sign.
    A break is a space.
    """
    text, weights = whole_text(parts)
    words = tokenizer.encode(text)
    length = next((one for one in sorted(lengths) if len(words) < one), max(lengths))
    kept, rest = words[: length - 1], words[length - 1 :]
    fill = length - 1 - len(kept)
    told = [weight_of(word, text, weights) for word in kept]
    return Tokens(
        ((*(word.number for word in kept), tokenizer.end, *[tokenizer.pad] * fill),),
        ((*told, 1.0, *[1.0] * fill),),
        text[rest[0].begin :].strip() if rest else "",
    )


def _model_type(path: Path) -> str:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Unreadable(f"{str(path)!r} cannot be read: {error}.") from error
    model = cast(dict[str, Any], content).get("model") if isinstance(content, dict) else None
    return str(cast(dict[str, Any], model).get("type", "")) if isinstance(model, dict) else ""


def _of_json(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    kind = _model_type(path)
    if kind != "Unigram":
        raise Unreadable(f"{str(path)!r} is not T5's tokenizer: its model is {kind or 'none'}.")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare exceptions of its own
        raise Unreadable(f"{str(path)!r} is no tokenizer: {error}.") from error


def _of_pieces(path: Path) -> Tokenizer:
    """As the published tokenizer.json files are made of it."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

    found = sentencepiece_model(path)
    extra = [f"<extra_id_{i}>" for i in reversed(range(_EXTRA))]
    words = [piece for piece, _ in found.pieces]
    if UNKNOWN not in words:
        raise Unreadable(f"{str(path)!r} lacks {UNKNOWN!r}.", do="Is it T5's?")
    vocabulary = [*found.pieces, *((word, 0.0) for word in extra if word not in words)]
    build: Any = models.Unigram
    tokenizer = Tokenizer(build(vocabulary, words.index(UNKNOWN), False))
    if found.charsmap:
        tokenizer.normalizer = normalizers.Precompiled(found.charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always"),
        ]
    )
    add: Any = tokenizer  # its methods take lists of anything
    add.add_special_tokens([AddedToken(mark, special=True) for mark in (PAD, END, UNKNOWN, *extra)])
    return tokenizer
