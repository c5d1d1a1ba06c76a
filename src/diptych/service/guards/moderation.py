"""Which prompts the operator refuses.

Diptych ships with an empty list: out of the box no prompt is refused. A list of words is a crude
gate. It finds the words that stand in it, also where marks, case, width or invisible characters
hide them; it understands nothing, and whoever needs more gives another `Gate`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from unicodedata import combining, normalize

from diptych.foundation.errors import NotFound, Unreadable
from diptych.service.guards.problem import Problem
from diptych.service.guards.words import Words, shown

_WORD = re.compile(r"\w+")
_MOST_BYTES = 8 << 20


class Gate(Protocol):
    """Reads a prompt both as it came and as it is seen."""

    def refuses(self, words: Words) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class WordList:
    """Whole words or rows of words, compared by `folded`; empty: refuses nothing."""

    entries: frozenset[str] = frozenset()

    def refuses(self, words: Words) -> bool:
        longest = max((entry.count(" ") + 1 for entry in self.entries), default=0)
        if not longest:
            return False
        return any(self._found(folded(text), longest) for text in (words.raw, words.shown))

    def _found(self, text: str, longest: int) -> bool:
        parts = text.split()
        rows = range(1, longest + 1)
        return any(
            " ".join(parts[i : i + n]) in self.entries for n in rows for i in range(len(parts))
        )


def word_list(lines: Iterable[str]) -> WordList:
    """An entry a line; empty lines and lines that begin with # are left out."""
    kept = (line for line in lines if not line.lstrip().startswith("#"))
    return WordList(entries=frozenset(filter(None, map(folded, kept))))


def read_word_list(path: str | os.PathLike[str]) -> WordList:
    """The operator's file, UTF-8, up to 8 MiB. Raises NotFound or Unreadable."""
    source = Path(path)
    if not source.is_file():
        raise NotFound(f"There is no word list {str(path)!r}.")
    if source.stat().st_size > _MOST_BYTES:
        raise Unreadable(f"{str(path)!r} is larger than a word list.", do="Up to 8 MiB are read.")
    try:
        return word_list(source.read_text(encoding="utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise Unreadable(f"{str(path)!r} is not UTF-8.") from error


def folded(text: str) -> str:
    """Words in lower case, without marks, one space between: what two spellings have in common."""
    bare = "".join(c for c in normalize("NFKD", shown(text).casefold()) if not combining(c))
    return " ".join(_WORD.findall(normalize("NFKC", bare)))


def moderated(words: Words, gate: Gate, field: str) -> Words:
    """The words, if the gate lets them through. Raises Problem 403 moderated."""
    if gate.refuses(words):
        detail = "The operator of this server does not have such prompts painted."
        raise Problem("moderated", detail=detail, field=field)
    return words
