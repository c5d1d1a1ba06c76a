"""Tokens to text as they come: never half a character, never a part of a stop text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

_HALF = "\ufffd"  # what a decoder says for bytes that are no character yet


@dataclass(frozen=True)
class Spelling:
    """`text` is final so far, `held` may still become part of a stop text; `stopped`: one came.

    Of the tokens, those before `begun` are in the text for good; those between `begun` and
    `spelled` are spelled too, and stay to tell how what follows is joined to them.
    """

    tokens: tuple[int, ...] = ()
    text: str = ""
    held: str = ""
    begun: int = 0
    spelled: int = 0
    stopped: bool = False

    @property
    def whole(self) -> str:
        """Text as it stands if nothing more comes."""
        return self.text + self.held


def spelled(
    so_far: Spelling, token: int, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()
) -> Spelling:
    """One token more. `decode`: a tokenizer's, of a run of tokens."""
    tokens = (*so_far.tokens, token)
    before = decode(tokens[so_far.begun : so_far.spelled])
    now = decode(tokens[so_far.begun :])
    if now.endswith(_HALF) or len(now) < len(before):
        return replace(so_far, tokens=tokens)
    fresh = so_far.held + now[len(before) :]
    following = replace(so_far, tokens=tokens, begun=so_far.spelled, spelled=len(tokens))
    places = [at for at in (fresh.find(one) for one in stop) if at >= 0]
    if places:
        kept = so_far.text + fresh[: min(places)]
        return replace(following, text=kept, held="", stopped=True)
    keep = max((_overlap(fresh, one) for one in stop), default=0)
    cut = len(fresh) - keep
    return replace(following, text=so_far.text + fresh[:cut], held=fresh[cut:])


def ended(so_far: Spelling, decode: Callable[[Sequence[int]], str]) -> Spelling:
    """Nothing more comes: what was held back is text, bytes that are no character are dropped."""
    if so_far.stopped:
        return so_far
    before = decode(so_far.tokens[so_far.begun : so_far.spelled])
    rest = decode(so_far.tokens[so_far.begun :])[len(before) :].rstrip(_HALF)
    return replace(so_far, text=so_far.text + so_far.held + rest, held="")


def _overlap(text: str, stop: str) -> int:
    """How much of the text's end is a beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
