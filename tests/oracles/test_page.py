"""docs/disagreements.md names tests that exist, and all of those that were made for it."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "disagreements.md"


def names_in(*files: Path) -> set[str]:
    return {
        name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
    }


def test_the_page_and_the_tests_name_each_other():
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    there = names_in(*HERE.glob("*.py"), HERE.parent / "diffusion" / "test_defects.py")
    assert named <= there, named - there
    made = names_in(*(HERE / f"test_{k}.py" for k in ("their_defects", "their_lists", "choices")))
    assert made <= named, made - named
