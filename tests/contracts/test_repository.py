"""What holds for the files of the repository, whatever is in them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PYTHON = [
    *SOURCES,
    *sorted((ROOT / "tests").rglob("*.py")),
    *sorted((ROOT / "benchmarks").rglob("*.py")),
    *sorted((ROOT / ".ci").rglob("*.py")),
]
WRITTEN = [
    *PYTHON,
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("*.toml")),
    ROOT / "Makefile",
    ROOT / ".ci" / "run",
    ROOT / ".importlinter",
]
LONGEST = 450
# In brackets, so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(r"(?<![.\w])/([w]ork|[r]oot|[h]ome|[U]sers)/")


def test_there_is_something_to_look_at():
    assert len(SOURCES) > 50 and len(PYTHON) > len(SOURCES)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_source_file_can_be_read_in_one_go(path: Path):
    assert len(path.read_text().splitlines()) <= LONGEST


def test_decisions_are_numbered_without_gaps():
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs/decisions").glob("0*.md"))]
    assert numbers == list(range(1, len(numbers) + 1)) and numbers


def test_no_path_of_one_machine():
    found = {str(path): MACHINE_PATH.findall(path.read_text()) for path in WRITTEN}
    assert not {path: hits for path, hits in found.items() if hits}


def test_torchvision_is_not_used():
    for path in PYTHON:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if n.partition(".")[0] == "torchvision"], path


def test_a_font_has_its_license_beside_it():
    fonts = [path for kind in ("ttf", "otf") for path in (ROOT / "src").rglob(f"*.{kind}")]
    assert fonts
    for font in fonts:
        assert (font.parent / "LICENSE").stat().st_size > 500, font
