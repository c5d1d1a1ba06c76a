"""The command line: exit codes, two lines for an error, the nearest right word."""

from __future__ import annotations

import subprocess
import sys

import pytest

from diptych.cli import main

PLANTED = '''"""A verb for tests."""
import sys
from diptych.foundation.errors import NotFound

def add_arguments(parser):
    parser.add_argument("what", choices=["work", "fail", "interrupt", "flood"])
    parser.add_argument("--steps", type=int, default=4)
    parts = parser.add_argument_group("more")
    parts.add_argument("--seed", type=int)

def run(args):
    if args.what == "fail":
        raise NotFound("There is no picture.", do="Make one.")
    if args.what == "interrupt":
        raise KeyboardInterrupt
    if args.what == "flood":
        for line in range(200_000):
            print(line)
    return args.seed
'''


@pytest.fixture
def planted(tmp_path, monkeypatch):
    (tmp_path / "planted_verb.py").write_text(PLANTED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(main.VERBS, "planted", ("planted_verb", "a verb for tests"))
    yield tmp_path
    sys.modules.pop("planted_verb", None)


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("planted work", 0, ""),
        ("planted work --seed 9", 9, ""),
        ("planted fail", 3, "There is no picture.\n  Make one."),
        ("planted interrupt", 130, "interrupted"),
        ("plantde work", 3, "'planted'"),
        ("planted wrok", 2, "'work'"),  # codespell:ignore
        ("planted work --stesp 3", 2, "'--steps'"),
        ("planted work --step=3", 2, "'--steps'"),
        ("planted work --steps many", 2, "--steps"),
        ("planted", 2, "what"),
        ("planted work more", 2, "'more'"),
        ("--verison", 2, "'--version'"),
    ],
)
def test_codes_and_words(planted, capsys, line, code, says):
    assert main.entry(line.split()) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert says in told.err
    assert bool(told.err) == bool(says)
    assert len(told.err.splitlines()) <= 2


def test_help_and_version(planted, capsys):
    assert main.entry(["--help"]) == main.entry([]) == 0
    once, twice = capsys.readouterr().out.split("usage: ")[1:]
    assert once == twice
    assert "a verb for tests" in once
    assert main.entry(["--version"]) == 0
    assert capsys.readouterr().out == f"diptych {main.__version__}\n"
    assert main.entry(["planted", "--help"]) == 0
    assert "--steps" in capsys.readouterr().out


def test_a_reader_that_leaves_is_no_error(planted):
    program = (
        f"import sys; sys.path.insert(0, {str(planted)!r})\n"
        "from diptych.cli import main\n"
        "main.VERBS['planted'] = ('planted_verb', '')\n"
        "sys.exit(main.entry(['planted', 'flood']))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None and child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait() == main.BROKEN_PIPE


def test_python_m_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "diptych", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"diptych {main.__version__}\n"
