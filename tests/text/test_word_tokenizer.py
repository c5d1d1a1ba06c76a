"""Words to tokens and back, and what is said of words that are not known."""

from __future__ import annotations

import pytest

from diptych.decoding.spelling import Spelling, ended, spelled
from diptych.foundation.errors import InvalidValue, Unreadable
from diptych.text.word_tokenizer import WordTokenizer

KNOWN = WordTokenizer.of_words(["a", "red", "circle", "the", "word", "and"], "AB3")


@pytest.mark.parametrize("text", ["a red circle", 'the word "AB3"', "AB", 'a circle, the word "A"'])
def test_a_sentence_comes_back(text: str):
    assert KNOWN.decode(KNOWN.encode(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        'the word "A"',
        'the word "AB3"',
        'the word "3" and a red circle',
        'a circle, the word "AB", a',
    ],
)
def test_a_sentence_that_comes_word_by_word_is_the_same(text: str):
    state = Spelling()
    for token in KNOWN.encode(text):
        state = spelled(state, token, KNOWN.decode)
    assert ended(state, KNOWN.decode).text == text


def test_case_does_not_matter_outside_quotation_marks():
    assert KNOWN.check("A Red CIRCLE", 9) == KNOWN.encode("a red circle")
    assert KNOWN.check('the word "ab3"', 9) == KNOWN.encode('the word "AB3"')


@pytest.mark.parametrize(("text", "said"), [("a red circlle", "'circle'"), ("a zebra", "It knows")])
def test_an_unknown_word_is_named_with_the_nearest_known(text: str, said: str):
    with pytest.raises(InvalidValue, match=text.split()[-1]) as error:
        KNOWN.check(text, 9)
    assert said in error.value.do


def test_a_long_text_is_refused_with_both_numbers():
    with pytest.raises(InvalidValue, match=r"4 tokens; the model reads 3"):
        KNOWN.check("a red red circle", 3)


def test_the_file_holds_all(tmp_path):
    (tmp_path / "tokenizer.json").write_text(KNOWN.to_json())
    again = WordTokenizer.load(tmp_path / "tokenizer.json")
    assert again.vocabulary == KNOWN.vocabulary and again.pad == KNOWN.pad
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(Unreadable, match="broken"):
        WordTokenizer.load(tmp_path / "broken.json")
