"""Every verb explains itself, and a slip of the finger is answered with the right word."""

from __future__ import annotations

import subprocess
import sys

import pytest

from diptych.cli.main import VERBS, entry, parser_of
from diptych.cli.parsing import _flags
from diptych.foundation.errors import InvalidValue


@pytest.mark.parametrize("verb", VERBS)
def test_help_says_how_it_is_called(verb: str, capsys: pytest.CaptureFixture[str]):
    assert entry([verb, "--help"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"usage: diptych {verb}") and not told.err
    assert VERBS[verb][1]


@pytest.mark.parametrize("verb", VERBS)
def test_a_misspelled_verb(verb: str, capsys: pytest.CaptureFixture[str]):
    assert entry([verb + "x"]) == 3
    told = capsys.readouterr()
    assert repr(verb) in told.err and len(told.err.splitlines()) <= 2 and not told.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_misspelled_flag(verb: str):
    for flag in {flag for flag in _flags(parser_of(verb)[0]) if flag.startswith("--")}:
        parser, _ = parser_of(verb)
        for action in parser._actions:  # so that the slip is the only thing wrong
            action.required = False
        with pytest.raises(InvalidValue) as caught:
            parser.parse_strictly([flag + "x"])
        assert caught.value.exit_code == 2
        assert repr(flag) in caught.value.do


def test_no_traceback_reaches_the_user():
    for words, code in [(["trainn"], 3), (["train", "--listt"], 2), (["train", "curve"], 3)]:
        command = [sys.executable, "-m", "diptych", *words]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == code
        assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 2
