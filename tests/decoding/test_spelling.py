"""Tokens to text as they come."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from diptych.decoding.spelling import Spelling, ended, spelled


def decode(tokens: Sequence[int]) -> str:
    """A byte a token."""
    return bytes(tokens).decode("utf-8", errors="replace")


def streamed(text: bytes, stop: Sequence[str] = ()) -> tuple[str, list[str]]:
    state, pieces = Spelling(), list[str]()
    for byte in text:
        before = len(state.text)
        state = spelled(state, byte, decode, stop)
        pieces.append(state.text[before:])
        if state.stopped:
            return state.text, pieces
    before = len(state.text)
    state = ended(state, decode)
    return state.text, [*pieces, state.text[before:]]


@pytest.mark.parametrize("text", ["plain", "é, ñ und ß", "日本語", "🎨🖼️ and more", "a" * 50 + "ø"])
def test_no_half_character_is_ever_shown(text: str):
    whole, pieces = streamed(text.encode())
    assert whole == text == "".join(pieces)
    assert not any("\ufffd" in piece for piece in pieces)


def test_bytes_that_are_no_character_are_dropped_at_the_end():
    whole, _ = streamed(b"fine " + "é".encode()[:1])
    assert whole == "fine "


def test_a_stop_text_never_shows_wherever_tokens_are_cut():
    draw = Random(2)
    for _ in range(300):
        text = "".join(draw.choice("ab|") for _ in range(20))
        stops = ["".join(draw.choice("ab|") for _ in range(draw.randint(1, 4))) for _ in range(2)]
        whole, pieces = streamed(text.encode(), stops)
        places = [text.index(stop) for stop in stops if stop in text]
        if places:
            # What came with the first stop text to be whole is cut before it.
            ends = min(text.index(stop) + len(stop) for stop in stops if stop in text)
            cut = min(text.index(s) for s in stops if s in text[:ends])
            assert whole == text[:cut]
        else:
            assert whole == text
        assert "".join(pieces) == whole
