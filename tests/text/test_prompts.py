"""Weights, breaks and chunks of a prompt, and that nothing of it is lost."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.foundation.errors import InvalidValue
from diptych.text.prompts import (
    Piece,
    Tokens,
    padded,
    parse,
    plain,
    tokens_of,
    written,
)
from tests.tiny_clip import tiny_tokenizer

CLIP, OPENCLIP = tiny_tokenizer(), tiny_tokenizer(pad="!")
# The examples of AUTOMATIC1111's modules/prompt_parser.py.
THEIRS = {
    "normal text": [("normal text", 1.0)],
    "an (important) word": [("an ", 1.0), ("important", 1.1), (" word", 1.0)],
    "(unbalanced": [("unbalanced", 1.1)],
    r"\(literal\]": [("(literal]", 1.0)],
    "(unnecessary)(parens)": [("unnecessaryparens", 1.1)],
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": [
        ("a ", 1.0),
        ("house", 1.5730000000000004),
        (" ", 1.1),
        ("on", 1.0),
        (" a ", 1.1),
        ("hill", 0.55),
        (", sun, ", 1.1),
        ("sky", 1.4641000000000006),
        (".", 1.1),
    ],
}
# What only syntax is made of, with some words.
TRICKY = st.lists(
    st.sampled_from(
        [*"()[]\\: .5", ":1.3)", ": 2 )", "BREAK", " BREAK ", "a", "the cat", "é", "!"]
    ),
    max_size=30,
).map("".join)
WEIGHTS = st.floats(-4, 4).filter(lambda weight: weight != 0)
WORDS = (
    st.lists(st.sampled_from([*"ab ()[]\\:.1é", "BREAK"]), min_size=1, max_size=8)
    .map("".join)
    .filter(lambda text: text == text.strip())
)


@st.composite
def drawn_parts(draw: st.DrawFn) -> tuple[tuple[Piece, ...], ...]:
    """As `parse` gives them: neighbours of one part differ in weight."""
    pieces = st.lists(st.builds(Piece, WORDS, WEIGHTS | st.just(1.0)), max_size=4).filter(
        lambda found: all(a.weight != b.weight for a, b in pairwise(found))
    )
    return tuple(map(tuple, draw(st.lists(pieces, min_size=1, max_size=3))))


def words_of(tokens: Tokens) -> list[tuple[int, float]]:
    """Numbers and weights without marks and padding."""
    return [
        pair
        for ids, weights in zip(tokens.ids, tokens.weights, strict=True)
        for pair in list(zip(ids, weights, strict=True))[1 : ids.index(CLIP.end)]
    ]


@pytest.mark.parametrize("prompt", THEIRS)
def test_published_examples(prompt: str):
    assert parse(prompt) == (tuple(Piece(*pair) for pair in THEIRS[prompt]),)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("(a: 2 )", [[("a", 2.0)]]),
        ("(a:-.5)", [[("a", -0.5)]]),
        ("[a:1.3]", [[("a:1.3", 1 / 1.1)]]),
        ("(a:b:1.3)", [[("a:b", 1.3)]]),
        ("(a:1.2.3)", [[("a:1.2.3", 1.1)]]),
        ("a:1.3)] b", [[("a:1.3)] b", 1.0)]]),
        (r"C:\dir \\ \(x\)", [[("C:\\dir \\ (x)", 1.0)]]),
        ("a [b", [[("a ", 1.0), ("b", 1 / 1.1)]]),
        ("(a [b) c]", [[("a ", 1.1), ("b", 1.1 / 1.1), (" c", 1 / 1.1)]]),
        ("a BREAK b", [[("a", 1.0)], [("b", 1.0)]]),
        ("(a BREAK b:2) c", [[("a", 2.0)], [("b", 2.0), (" c", 1.0)]]),
        (r"BREAKfast break \BREAK", [[("BREAKfast break BREAK", 1.0)]]),
        ("BREAK", [[], []]),
        ("", [[]]),
        ("()[]((", [[]]),
    ],
)
def test_syntax(prompt: str, said: list[list[tuple[str, float]]]):
    assert parse(prompt) == tuple(tuple(Piece(*pair) for pair in part) for part in said)


@settings(max_examples=300, deadline=None)
@given(drawn_parts())
def test_what_is_written_is_read_again(parts: tuple[tuple[Piece, ...], ...]):
    assert parse(written(parts)) == parts


@settings(max_examples=300, deadline=None)
@given(TRICKY)
def test_a_prompt_written_again_has_the_same_tokens(prompt: str):
    once, again = (
        tokens_of(parts, CLIP) for parts in (parse(prompt), parse(written(parse(prompt))))
    )
    assert once == again


@settings(deadline=None)
@given(st.text(max_size=30))
def test_escaped_text_is_itself(text: str):
    assert "".join(piece.text for piece in parse(written(plain(text)))[0]) == text


@pytest.mark.parametrize(
    "prompt", [" " * 100_000 + "a", "a:" + "1" * 100_000, ": " * 50_000, "(a) BREAK" * 9_000]
)
@pytest.mark.timeout(10)
def test_a_malicious_prompt_takes_no_longer(prompt: str):
    """By backtracking each of these would take minutes."""
    assert parse(prompt)


def test_weights_beyond_all_numbers_are_refused():
    with pytest.raises(InvalidValue, match="'a'"):
        parse("(" * 8000 + "a")


@settings(max_examples=200, deadline=None)
@given(TRICKY, st.integers(3, 12))
def test_chunks_hold_all_words_and_weights(prompt: str, length: int):
    parts = parse(prompt)
    found = tokens_of(parts, OPENCLIP, length=length)
    for ids, weights in zip(found.ids, found.weights, strict=True):
        assert len(ids) == len(weights) == length
        end = ids.index(OPENCLIP.end)
        assert ids[0] == OPENCLIP.start and set(ids[end + 1 :]) <= {OPENCLIP.pad}
        assert weights[0] == 1 and set(weights[end:]) == {1.0}
    wanted = [
        (token.number, piece.weight)
        for part in parts
        for piece in part
        for token in OPENCLIP.encode(piece.text)
    ]
    assert words_of(found) == wanted and not found.truncated
    assert found.chunks >= max(1, -(-len(wanted) // (length - 2)))


WHOLE = st.lists(st.sampled_from(["the", "cat", "(a:2)", "[they the]", "BREAK", "((a) at)"]))


@settings(max_examples=200, deadline=None)
@given(WHOLE.map(" ".join), st.integers(3, 6), st.integers(1, 3))
def test_what_finds_no_room_is_returned(prompt: str, length: int, most: int):
    """Words of one token each: the text that comes back has just the tokens that were cut."""
    whole, kept = (tokens_of(parse(prompt), CLIP, length=length, most=m) for m in (None, most))
    assert kept.ids == whole.ids[:most] and kept.weights == whole.weights[:most]
    cut = words_of(Tokens(whole.ids[most:], whole.weights[most:]))
    assert [token.number for token in CLIP.encode(kept.truncated)] == [word for word, _ in cut]


@settings(deadline=None)
@given(TRICKY, st.integers(3, 6))
def test_what_is_cut_anywhere_is_an_end_of_the_text(prompt: str, length: int):
    kept = tokens_of(parse(prompt), CLIP, length=length, most=1)
    text = " ".join("".join(piece.text for piece in part) for part in parse(prompt))
    assert text.strip().endswith(kept.truncated)
    assert bool(kept.truncated) == (words_of(kept) != words_of(tokens_of(parse(prompt), CLIP)))


def test_one_window_and_what_follows_it():
    def chunks(count: int, **limits: int) -> Tokens:
        return tokens_of(parse(" ".join(["cat"] * count)), CLIP, **limits)

    (cat,) = {number for number, _ in words_of(chunks(3))}
    for count, lengths in {0: [0], 1: [1], 75: [75], 76: [75, 1], 160: [75, 75, 10]}.items():
        pad = [75 - length for length in lengths]
        assert chunks(count).ids == tuple(
            (CLIP.start, *[cat] * n, CLIP.end, *[CLIP.pad] * more)
            for n, more in zip(lengths, pad, strict=True)
        )
    assert chunks(80, most=1).truncated == " ".join(["cat"] * 5)
    assert chunks(80, most=1).ids == chunks(80).ids[:1]


@pytest.mark.parametrize(
    ("prompt", "lengths"),
    [
        ("a BREAK the cat", [1, 2]),
        ("a BREAK", [1]),
        ("BREAK a", [0, 1]),
        ("a BREAK BREAK the", [1, 0, 1]),
        ("a a a a a BREAK a", [4, 1, 1]),
    ],
)
def test_a_break_fills_its_chunk(prompt: str, lengths: list[int]):
    found = tokens_of(parse(prompt), CLIP, length=6)
    assert [ids.index(CLIP.end) - 1 for ids in found.ids] == lengths


def test_truncated_is_what_was_written():
    found = tokens_of(parse(r"A (Red \(Cat\):1.2), BREAK (The Hill)"), CLIP, length=5, most=1)
    assert found.truncated == "(Cat), The Hill"


def test_padded_with_empty_chunks():
    one, empty = tokens_of(parse("a (cat)"), OPENCLIP), tokens_of(parse(""), OPENCLIP)
    three = padded(one, 3, OPENCLIP)
    assert three.ids == one.ids + empty.ids * 2 and three.weights[1] == (1.0,) * 77
    assert padded(three, 3, OPENCLIP) == three and padded(one, 1, OPENCLIP) == one
    with pytest.raises(ValueError, match="3 chunks"):
        padded(three, 2, OPENCLIP)
