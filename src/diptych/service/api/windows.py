"""Prompts longer than a model reads: counted here, with the model's own tokenizer, which the
engine leaves in the folder of the data. Models that read a prompt of any length have no window."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from diptych.foundation.errors import DiptychError
from diptych.service.api.state import ModelInfo
from diptych.text.prompts import parse, whole_text
from diptych.text.t5_tokenizer import T5Tokenizer
from diptych.text.word_tokenizer import WordTokenizer


class Kind(NamedTuple):
    """How tokens are counted, by a file, and whether a model paints of what finds room."""

    counter: Callable[[Path], Callable[[str], int]]
    cuts: bool


def _pieces(path: Path) -> Callable[[str], int]:
    tokenizer = T5Tokenizer.load(path.parent)
    return lambda text: len(tokenizer.encode(whole_text(parse(text))[0]))


def _words(path: Path) -> Callable[[str], int]:
    return WordTokenizer.load(path).count


KINDS: dict[str, Kind] = {"pieces": Kind(_pieces, cuts=True), "words": Kind(_words, cuts=False)}


def place_of(data: Path, name: str) -> Path:
    """Where the tokenizer of a model lies."""
    return data / "tokenizers" / name / "tokenizer.json"


def is_over(data: Path, info: ModelInfo, text: str) -> bool:
    """Whether a prompt has more tokens than the model reads."""
    # A token has a sign of the text at least, and a space before the first may be one.
    if info.counts not in KINDS or len(normalize("NFKC", text)) < info.window:
        return False
    path = place_of(data, info.name)
    try:
        return _counter(info.counts, path, path.stat().st_mtime_ns)(text) > info.window
    except (OSError, DiptychError):  # the engine says what it lacks, by a job that fails
        return False


@lru_cache(maxsize=16)
def _counter(kind: str, path: Path, changed: int) -> Callable[[str], int]:
    return KINDS[kind].counter(path)


def warning(info: ModelInfo, field: str) -> str:
    """What is said of a text that is cut."""
    return f"Only the first {info.window} tokens of the {field} are read."
