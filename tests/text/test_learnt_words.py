"""Words of several numbers in a tokenizer, and in the chunks of a prompt."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.foundation.errors import InvalidValue
from diptych.text.prompts import parse, plain, tokens_of
from tests.tiny_clip import tiny_tokenizer

CLIP = tiny_tokenizer()
LEARNT = (9000, 9001, 9002)
KNOWING = CLIP.extended("<Cat-Toy>", LEARNT)
THE, CAT = (CLIP.encode(word)[0].number for word in ("the", "cat"))


def numbers(text: str) -> list[int]:
    return [token.number for token in KNOWING.encode(text)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("the <cat-toy>", [THE, *LEARNT]),
        ("<CAT-TOY> the", [*LEARNT, THE]),
        ("the<cat-toy>cat", None),
        ("<cat-toy> <cat-toy>", [*LEARNT, *LEARNT]),
        ("the cat", [THE, CAT]),
    ],
)
def test_a_word_is_its_numbers(text: str, said: list[int] | None):
    if said is not None:
        assert numbers(text) == said
    else:  # within other words it is none
        assert numbers(text) == [token.number for token in CLIP.encode(text)]


def test_its_tokens_say_where_it_stands_and_that_they_belong_together():
    tokens = KNOWING.encode("the <cat-toy>!")
    assert [(t.begin, t.stop, t.joined) for t in tokens] == [
        (0, 3, False), (4, 13, False), (4, 13, True), (4, 13, True), (13, 14, False),
    ]  # fmt: skip


def test_the_tokenizer_that_was_there_is_as_it_was():
    before = [token.number for token in CLIP.encode("the <cat-toy>")]
    more = KNOWING.extended("badhands", [9003])
    assert [t.number for t in more.encode("badhands <cat-toy>")] == [9003, *LEARNT]
    assert numbers("badhands") == [t.number for t in CLIP.encode("badhands")] != [9003]
    assert [token.number for token in CLIP.encode("the <cat-toy>")] == before
    assert len(CLIP) == len(KNOWING)


@pytest.mark.parametrize("word", ["cat</w>", "the", "a", "<|endoftext|>", "", " ", "a(b", "x[1]"])
def test_what_cannot_be_told_apart_is_refused(word: str):
    with pytest.raises(InvalidValue):
        CLIP.extended(word, LEARNT)
    with pytest.raises(InvalidValue, match="already"):
        KNOWING.extended("<cat-toy>", [9003])


def test_a_weight_is_for_all_of_it():
    tokens = tokens_of(parse("the (<cat-toy>:1.5)"), KNOWING, length=8)
    assert tokens.ids[0][1:5] == (THE, *LEARNT)
    assert tokens.weights[0][1:5] == (1, 1.5, 1.5, 1.5)


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(st.sampled_from(["the", "cat", "<cat-toy>", "!"]), max_size=30),
    length=st.integers(5, 12),
)
def test_no_chunk_begins_within_a_word(words: list[str], length: int):
    text = " ".join(words)
    tokens = tokens_of(plain(text), KNOWING, length=length)
    inner: list[int] = []
    for row in tokens.ids:
        assert len(row) == length
        # Without the marks of start and end and what fills up.
        end = row.index(CLIP.end)
        assert row[1] not in LEARNT[1:] and row[end - 1] not in LEARNT[:-1]
        inner += row[1:end]
    assert inner == numbers(text)


def test_what_is_longer_than_a_chunk_is_parted():
    long = CLIP.extended("xyzzy", range(9000, 9010))
    tokens = tokens_of(plain("the xyzzy"), long, length=6)
    inner = [number for row in tokens.ids for number in row[1 : row.index(CLIP.end)]]
    assert inner == [THE, *range(9000, 9010)]
