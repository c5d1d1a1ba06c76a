"""docs/solvers.md is what its command last wrote, for the solvers there are."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.solvers_page import GRID_SOLVERS, SHOWN
from diptych.diffusion.solvers import ALIASES, SOLVERS
from diptych.diffusion.spacings import SPACINGS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "solvers.md").read_text()
TEMPLATE = (ROOT / "benchmarks" / "solvers_page.md").read_text()


def test_the_words_are_those_of_the_template():
    for part in re.split(r"\{[A-Z]+\}", TEMPLATE):
        assert part in PAGE


def test_every_solver_has_its_row_and_no_other_has():
    rows = re.findall(r"^\| `([\w-]+)` \| (\d*) \| ([\d.]*) \| (\d) \| (.+) \|$", PAGE, re.M)
    assert {name: (order, asks, line) for name, order, _, asks, line in rows} == {
        name: (str(one.order or ""), str(one.evaluations), one.line)
        for name, one in SOLVERS.items()
    }
    for name, order, measured, _, _ in rows:
        assert bool(order) == bool(measured), name
        assert not order or float(measured) > float(order) - 0.2, name


def test_aliases_and_spacings_are_told():
    for alias, name in ALIASES.items():
        assert f"`{alias}` is `{name}`" in PAGE
    for name, one in SPACINGS.items():
        assert f"| `{name}` | {one.line} |" in PAGE
    assert {*GRID_SOLVERS, *SHOWN} <= set(SOLVERS)
