"""JSON from strangers: one reading or none.

Why the standard library: orjson, msgspec and pydantic-core (jiter) are faster, yet take the last
of doubled keys in silence and put other bounds on depth and digits. A body of 1 MiB costs
milliseconds either way.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from diptych.service.guards.problem import Problem

DEEPEST = 32
_BROKEN = object()
MOST_DIGITS = 20  # 2^64 has as many
# A string, also one without an end, or a bracket. Possessive: no input makes it go back.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.?)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)
_STEP = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")


def parsed(body: bytes) -> Any:
    """The value in a UTF-8 body: dicts, lists, strings, finite floats, integers of up to 20
    digits, True, False, None.

    Raises Problem: 400 malformed-json for other encodings, a byte order mark, more than 32 levels,
    longer integers and whatever is no JSON; 422 bad-field for a doubled key, not-finite for NaN,
    Infinity and 1e999, bad-text for lone surrogates, NUL and control characters (tab, LF and CR
    are text) in a string or key.
    """
    text = _decoded(body)
    if text is None:
        raise _malformed("Send it as UTF-8.")
    if text.startswith("\ufeff"):
        raise _malformed("Send it without a byte order mark.")
    if depth(body) > DEEPEST:
        raise _malformed(f"Nest at most {DEEPEST} levels.")
    value = _loaded(text)
    if value is _BROKEN:
        raise _malformed("Send one JSON value and nothing else.")
    _check(value)
    return value


def depth(body: bytes) -> int:
    """How deep brackets nest, strings left out, without parsing: no recursion, linear time."""
    if body.count(b"[") + body.count(b"{") <= DEEPEST:
        return min(DEEPEST, body.count(b"[") + body.count(b"{"))
    now = most = 0
    for token in _TOKEN.finditer(body):
        now += _STEP.get(token[0], 0)
        most = max(most, now)
    return most


# The errors of the library hold the whole body. No refusal is raised while one is being handled:
# it would stand in the refusal's context, and from there in a log.
def _decoded(body: bytes) -> str | None:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, parse_int=_integer, object_pairs_hook=_members)
    except ValueError:
        return _BROKEN


def is_text(text: str) -> bool:
    """Whether it holds only what UTF-8, a database and a page can show."""
    return _NO_TEXT.search(text) is None


def pointer(*parts: str | int) -> str:
    """The JSON pointer; a name that no field of ours could have is not repeated, only `*`."""
    said = (str(p) if isinstance(p, int) or _PLAIN.fullmatch(p) else "*" for p in parts)
    return "".join(f"/{part}" for part in said)


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS:
        raise _malformed(f"Integers have at most {MOST_DIGITS} digits.")
    return int(digits)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise Problem("bad-field", detail="Send each field once.", field=pointer(twice))
    return members


def _check(value: Any) -> None:
    """Every string and float of it, without recursion."""
    left: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while left:
        at, value = left.pop()
        if isinstance(value, str) and not is_text(value):
            _no_text(at)
        elif isinstance(value, float) and not math.isfinite(value):
            raise Problem("not-finite", detail="Send a finite number.", field=pointer(*at))
        elif isinstance(value, list):
            left.extend(((*at, i), item) for i, item in enumerate(value))
        elif isinstance(value, dict):
            for name, item in value.items():
                if not is_text(name):
                    _no_text((*at, name))
                left.append(((*at, name), item))


def _no_text(at: tuple[str | int, ...]) -> NoReturn:
    detail = "Leave out NUL, control characters and halves of surrogate pairs."
    raise Problem("bad-text", detail=detail, field=pointer(*at))


def _malformed(detail: str) -> Problem:
    return Problem("malformed-json", detail=detail)
