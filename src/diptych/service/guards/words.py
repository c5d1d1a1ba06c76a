"""Prompts: their bounds, and what a reader would see of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from unicodedata import category, normalize

from diptych.service.guards.json_gate import is_text
from diptych.service.guards.problem import Problem

MOST_CODE_POINTS = 4_000
MOST_BYTES = 16 << 10
MOST_MARKS = 64  # a row of combining marks: no script has more than a few on a letter

# Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties): zero-width, bidirectional, tag
# and filler characters, variation selectors. A font shows nothing for them.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)


@dataclass(frozen=True, kw_only=True)
class Words:
    """A prompt as it came, for the encoder, and as it is seen, for moderation and search."""

    raw: str
    shown: str


def checked(text: str, field: str) -> Words:
    """A prompt within its bounds: 4,000 code points, 16 KiB of UTF-8, 64 combining marks in a row.

    Raises Problem 422: bad-text, too-long, or empty-text where nothing of it would be seen.
    """
    if not is_text(text):
        raise Problem("bad-text", detail="Leave out control characters.", field=field)
    if len(text) > MOST_CODE_POINTS:
        raise _too_long(f"Write at most {MOST_CODE_POINTS} characters.", field)
    if len(text.encode()) > MOST_BYTES:
        raise _too_long(f"Write at most {MOST_BYTES} bytes of UTF-8.", field)
    if longest_marks(text) > MOST_MARKS:
        raise _too_long(f"Put at most {MOST_MARKS} combining marks in a row.", field)
    seen = shown(text)
    if not seen:
        raise Problem("empty-text", detail="Write what can be seen.", field=field)
    return Words(raw=text, shown=seen)


def shown(text: str) -> str:
    """NFKC, without what no font shows and without spaces at the ends; doing it twice changes
    nothing."""
    return normalize("NFKC", _UNSEEN.sub("", text)).strip()


def longest_marks(text: str) -> int:
    """The longest row of combining marks (Mn, Mc, Me); unseen characters between do not end it."""
    if text.isascii():
        return 0
    now = most = 0
    for sign in _UNSEEN.sub(_marks_alone, text):
        now = now + 1 if _is_mark(sign) else 0
        most = max(most, now)
    return most


def _marks_alone(unseen: re.Match[str]) -> str:
    return "".join(filter(_is_mark, unseen[0]))  # variation selectors are marks themselves


@lru_cache(maxsize=4096)
def _is_mark(sign: str) -> bool:
    return category(sign).startswith("M")


def _too_long(detail: str, field: str) -> Problem:
    return Problem("too-long", detail=detail, field=field)
