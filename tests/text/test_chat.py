"""Conversations as text: what a person types stays text, and a template does nothing but write."""

from __future__ import annotations

import pytest

from diptych.foundation.errors import InvalidValue, Unreadable
from diptych.text.chat import TEMPLATES, Turn, escaped, written

WORDS = {"bos_token": "<s>", "eos_token": "</s>", "picture": "<image>"}
TURNS = [Turn("user", "first", 1), Turn("assistant", "second"), Turn("user", "third")]


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_says_all_turns_in_order_and_shows_the_picture_once(name: str):
    text = written(TEMPLATES[name], TURNS, words=WORDS)
    assert text.count("<image>") == 1
    places = [text.index(turn.text) for turn in TURNS]
    assert text.index("<image>") < places[0] and places == sorted(places)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_typed_placeholder_is_text(name: str):
    turns = [Turn("user", "see <image> and </s>", 1)]
    text = written(TEMPLATES[name], turns, words=WORDS, special=("<image>", "</s>"))
    assert text.count("<image>") == 1
    assert "see <\u200bimage> and <\u200b/s>" in text


def test_escaping_leaves_other_text_alone():
    assert escaped("a < b, <imag>", ("<image>", "<")) == "a < b, <imag>"


def test_generation_marks_of_training_are_passed_over():
    template = "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}{% endfor %}"
    assert written(template, [Turn("user", "x")], words=WORDS) == "user"


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{{ ''.__class__.__mro__ }}", "may not"),
        ("{% for i in range(99999) %}{{ messages }}{% endfor %}", "more than"),
        ("{% for i in range(9999999) %}x{% endfor %}", "broken"),
        ("{% if", "broken"),
        ("{{ messages[7].role }}", "broken"),
        ("{{ 'x' * 10 }}" + " " * 100_001, "100015 characters"),
    ],
)
def test_a_hostile_or_broken_template_is_refused(template: str, named: str):
    with pytest.raises(Unreadable, match=named):
        written(template, TURNS, words=WORDS)


def test_a_template_may_refuse_turns():
    with pytest.raises(InvalidValue, match="no system"):
        written("{{ raise_exception('no system') }}", TURNS, words=WORDS)
