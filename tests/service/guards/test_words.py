"""Bad inputs 7 to 9: prompts that are too long, unseen or empty, and the operator's word list."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.foundation.errors import NotFound, Unreadable
from diptych.service.guards import words
from diptych.service.guards.moderation import WordList, folded, moderated, read_word_list, word_list
from diptych.service.guards.problem import Problem
from diptych.service.guards.words import checked, longest_marks, shown

TAGS = "".join(chr(0xE0000 + ord(c)) for c in "hidden")
BAD = [
    ("7 code points", "a" * 4001, "too-long"),
    ("7 at the bound of both", "\U0001f308" * 4000, None),
    ("7 marks", "a" + "\u0301" * 65, "too-long"),
    ("7 marks with joiners between", "a" + "\u0301\u200d" * 65, "too-long"),
    ("7 marks, at the bound", "a" + "\u0301" * 64, None),
    ("9 empty", "", "empty-text"),
    ("9 spaces", " \t\n\u3000", "empty-text"),
    ("9 zero-width", "\u200b\u200d\ufeff\u2060", "empty-text"),
    ("9 bidi", "\u202e\u2066\u200f", "empty-text"),
    ("9 tags", TAGS, "empty-text"),
    ("9 fillers", "\u3164\uffa0\u115f", "empty-text"),
    ("4 surrogate", "a\udc00", "bad-text"),
]


@pytest.mark.parametrize(("text", "slug"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_each_prompt_passes_or_has_its_refusal(text: str, slug: str | None):
    if slug is None:
        assert checked(text, "/prompt").raw == text
        return
    with pytest.raises(Problem) as caught:
        checked(text, "/prompt")
    problem = caught.value
    assert (problem.status, problem.slug, problem.field) == (422, slug, "/prompt")


def test_7_the_bound_of_bytes_is_one_of_its_own(monkeypatch: pytest.MonkeyPatch):
    # UTF-8 has at most 4 bytes a character: it binds only if more characters were allowed.
    monkeypatch.setattr("diptych.service.guards.words.MOST_CODE_POINTS", 20_000)
    with pytest.raises(Problem, match="too-long"):
        checked("\U0001f308" * 4097, "/prompt")


@pytest.mark.parametrize("sign", [*"\u200b\u200d\u202e\u2066\ufeff\u00ad\ufe0f\u034f", *TAGS])
def test_8_the_unseen_is_gone_from_what_is_shown_and_stays_in_the_raw(sign: str):
    got = checked(f"a r{sign}ed cat", "/prompt")
    assert (got.raw, got.shown) == (f"a r{sign}ed cat", "a red cat")


def test_8_width_and_ligatures_are_seen_alike():
    assert shown("ｒｅｄ ﬁsh") == "red fish"
    assert shown("\u1100\u3164\u1161") == "\uac00"  # a filler between two halves of a letter


def test_8_no_character_becomes_an_unseen_one():
    """So that one round of stripping is enough."""
    for code in (*range(0xD800), *range(0xE000, 0x110000)):
        assert shown(shown(chr(code))) == shown(chr(code))
    everything = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    assert not words._UNSEEN.search(shown(everything))


@given(st.text(st.characters(blacklist_categories=("Cs",)), max_size=40))
def test_shown_is_settled_at_once(text: str):
    assert shown(shown(text)) == shown(text)


def test_the_worst_prompt_is_quick():
    begun = time.process_time()
    checked("\ufdfa" * 4000, "/prompt")  # NFKC makes 18 characters of it
    assert longest_marks("\u0301" * 4000) == 4000
    word_list(["bad word"]).refuses(checked("bad " * 1000, "/prompt"))
    assert time.process_time() - begun < 0.5


def test_the_shipped_list_refuses_nothing():
    prompt = checked("anything at all", "/prompt")
    assert moderated(prompt, WordList(), "/prompt") is prompt


HIDDEN = [
    "bad",
    "BAD!",
    "very b\u200bad",
    "ｂａｄ",
    "b\u0301ad",
    "a\nbad\ncat",
    "two   words",
    "Twó-words",
]


@pytest.mark.parametrize("text", HIDDEN)
def test_39_a_listed_word_is_found_however_it_is_dressed(text: str):
    gate = word_list(["# a note", "", "Bád", "two words"])
    with pytest.raises(Problem) as caught:
        moderated(checked(text, "/prompt"), gate, "/prompt")
    assert (caught.value.status, caught.value.slug) == (403, "moderated")


@pytest.mark.parametrize("text", ["badge", "two", "words two", "embad", "two more words"])
def test_other_words_pass(text: str):
    assert not word_list(["bad", "two words"]).refuses(checked(text, "/prompt"))


def test_the_list_comes_from_the_operators_file(tmp_path: Path):
    path = tmp_path / "words.txt"
    path.write_text("\ufeffbad\r\n# bad2\r\nzwei Wörter\r\n", encoding="utf-8")
    assert read_word_list(path).entries == {"bad", folded("zwei wörter")}
    with pytest.raises(NotFound):
        read_word_list(tmp_path / "other.txt")
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(Unreadable):
        read_word_list(path)
