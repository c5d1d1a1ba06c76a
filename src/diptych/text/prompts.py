r"""Prompts as people write them for Stable Diffusion: weights, breaks, any length.

    (word)        1.1 times the weight           [word]   1 / 1.1 times
    (word:1.3)    1.3 times                      ((word)) 1.1 times 1.1: they nest
    a BREAK b     b begins in a chunk of its own
    \( \) \[ \] \\ \BREAK    the signs themselves

The syntax is AUTOMATIC1111's (`modules/prompt_parser.py`), which others read too, but for two
things: a backslash before anything else stays, and BREAK within brackets breaks. A bracket that
is not closed reaches to the end; a closing one that closes nothing is text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from math import isfinite
from typing import NamedTuple

from diptych.foundation.errors import InvalidValue
from diptych.text.clip_bpe import ClipTokenizer, Token

LENGTH = 77  # start, 75 tokens, end
_FACTOR = 1.1
# Each alternative takes time in proportion to what it matches, however a prompt is made.
_SIGN = re.compile(
    r"\\BREAK\b|\\[\\()\[\]]|\bBREAK\b\s*|:\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)|[()\[\]]"
)
_LITERAL = re.compile(r"\bBREAK\b|[\\()\[\]]")


@dataclass(frozen=True)
class Piece:
    """Text and what its meaning is multiplied by."""

    text: str
    weight: float = 1.0


Part = tuple[Piece, ...]
"""What stands between two breaks."""


@dataclass(frozen=True)
class Tokens:
    """A prompt as a tokenizer's numbers: chunks of one length, each with marks of start and end
    and padding. `weights` are those of `ids`, 1 for marks and padding. `truncated`: the text that
    found no room, as it was written, without syntax."""

    ids: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[float, ...], ...]
    truncated: str = ""

    @property
    def chunks(self) -> int:
        """How many there are, one at least."""
        return len(self.ids)


def plain(prompt: str) -> tuple[Part, ...]:
    """The prompt as it is: brackets are brackets."""
    return ((Piece(prompt),),)


def parse(prompt: str) -> tuple[Part, ...]:
    """The parts between breaks, one at least; neighbours in a part differ in weight.

    Raises InvalidValue for weights that multiply to no number.
    """
    runs: list[str | None] = []  # None is a break
    spans: list[tuple[int, int, float]] = []  # from run, to run, factor
    opened: dict[str, list[int]] = {"(": [], "[": []}
    end = 0
    for sign in _SIGN.finditer(prompt):
        mark, text, end = sign.group(), prompt[end : sign.start()], sign.end()
        breaks = mark.startswith("BREAK")
        text = text.rstrip() if breaks else text
        runs += [text] if text else []
        if mark in opened:
            opened[mark].append(len(runs))
        elif mark.endswith(")") and mark[0] != "\\" and opened["("]:
            spans.append((opened["("].pop(), len(runs), float(sign[1] or _FACTOR)))
        elif mark == "]" and opened["["]:
            spans.append((opened["["].pop(), len(runs), 1 / _FACTOR))
        elif breaks:
            runs.append(None)
        else:
            runs.append(mark.removeprefix("\\"))
    runs += [prompt[end:]] if end < len(prompt) else []
    spans += [(start, len(runs), _FACTOR) for start in opened["("]]
    spans += [(start, len(runs), 1 / _FACTOR) for start in opened["["]]
    weights = [1.0] * len(runs)
    for start, stop, factor in spans:
        weights[start:stop] = [weight * factor for weight in weights[start:stop]]
    return _grouped(runs, weights)


def written(parts: Sequence[Part]) -> str:
    """A prompt that `parse` reads as these parts, but for white space beside a break."""

    def one(piece: Piece) -> str:
        text = _LITERAL.sub(r"\\\g<0>", piece.text)
        # As many digits as the number has, and no exponent.
        return text if piece.weight == 1 else f"({text}:{Decimal(repr(piece.weight)):f})"

    return " BREAK ".join("".join(map(one, part)) for part in parts)


def whole_text(parts: Sequence[Part]) -> tuple[str, list[float]]:
    """The text without syntax, a break being a space, and the weight of each of its signs: for
    tokenizers that cut a text as a whole."""
    text, weights = "", list[float]()
    for part in parts:
        if text and any(piece.text for piece in part):
            text, weights = text + " ", [*weights, 1.0]
        for piece in part:
            text += piece.text
            weights += [piece.weight] * len(piece.text)
    return text, weights


def weight_of(token: Token, text: str, weights: Sequence[float]) -> float:
    """That of its first sign that is no space: spaces before a word belong to it."""
    places = range(token.begin, token.stop)
    first = next((i for i in places if not text[i].isspace()), token.begin)
    return weights[first] if first < len(weights) else 1.0


def tokens_of(
    parts: Sequence[Part],
    tokenizer: ClipTokenizer,
    *,
    length: int = LENGTH,
    most: int | None = None,
) -> Tokens:
    """Chunks of `length` tokens, as many as there must be, or the first `most` with what does
    not fit returned.

    A break fills up its chunk; after the last one nothing makes no chunk. What stands for one
    word stays in one chunk, where it fits.
    """
    room = length - 2
    rows: list[list[_Word]] = []
    for number, part in enumerate(parts):
        words = [
            _Word(token.number, piece.weight, (number, place, token.begin), token.joined)
            for place, piece in enumerate(part)
            for token in tokenizer.encode(piece.text)
        ]
        if words or not rows or number + 1 < len(parts):
            rows += _chunks(words, room)
    kept = rows[:most]
    first = next((row[0] for row in rows[len(kept) :] if row), None)
    ids: list[tuple[int, ...]] = []
    weights: list[tuple[float, ...]] = []
    for row in kept:
        fill = room - len(row)
        numbers = (word.number for word in row)
        ids.append((tokenizer.start, *numbers, tokenizer.end, *[tokenizer.pad] * fill))
        weights.append((1.0, *(word.weight for word in row), 1.0, *[1.0] * fill))
    truncated = "" if first is None else _rest(parts, first.place)
    return Tokens(tuple(ids), tuple(weights), truncated)


def padded(tokens: Tokens, chunks: int, tokenizer: ClipTokenizer) -> Tokens:
    """With empty chunks behind, `chunks` in all, which are no fewer than there are."""
    more, length = chunks - tokens.chunks, len(tokens.ids[0])
    if more < 0:
        raise ValueError(f"{tokens.chunks} chunks are more than {chunks}")
    empty = tokens_of(plain(""), tokenizer, length=length)
    return replace(
        tokens, ids=tokens.ids + empty.ids * more, weights=tokens.weights + empty.weights * more
    )


class _Word(NamedTuple):
    """A token, and where it begins: part, piece, character; `joined` to the one before."""

    number: int
    weight: float
    place: tuple[int, int, int]
    joined: bool


def _chunks(words: list[_Word], room: int) -> list[list[_Word]]:
    """Rows of `room` words, one at least; none begins in the middle of what fits into one."""
    rows: list[list[_Word]] = []
    while len(words) > room:
        cut = next((i for i in range(room, 0, -1) if not words[i].joined), room)
        rows.append(words[:cut])
        words = words[cut:]
    return [*rows, words]


def _grouped(runs: Sequence[str | None], weights: Sequence[float]) -> tuple[Part, ...]:
    parts: list[list[Piece]] = [[]]
    for text, weight in zip(runs, weights, strict=True):
        if text is None:
            parts.append([])
        elif not isfinite(weight):
            raise InvalidValue(f"The weight of {text!r} is too large.", do="Choose one below 10.")
        elif parts[-1] and parts[-1][-1].weight == weight:
            parts[-1][-1] = Piece(parts[-1][-1].text + text, weight)
        else:
            parts[-1].append(Piece(text, weight))
    return tuple(map(tuple, parts))


def _rest(parts: Sequence[Part], place: tuple[int, int, int]) -> str:
    """All text from a place on."""
    part, piece, begin = place
    texts = ["".join(piece.text for piece in later) for later in parts[part + 1 :]]
    here = parts[part][piece:]
    first = here[0].text[begin:] + "".join(piece.text for piece in here[1:])
    return " ".join([first, *texts]).strip()
