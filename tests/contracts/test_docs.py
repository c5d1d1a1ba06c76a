"""Every fenced block of the documents says what it is: `run` is run, `shown` must be true.

A `run` block is a program of at most a minute in an empty folder without a network; `run on` goes
on where the run block before it ended, within that minute. A `shown` block of bash must parse
against the real command line or name real targets of the Makefile; a `shown` block of Python must
compile.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from diptych.cli.main import parse
from diptych.service.api.app import rows

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```\s*$", re.M | re.S
)
OTHER_WORDS = (
    "git clone ", "cd ", ".venv/bin/pip install ", "python3 -m venv ", "python -m benchmarks.",
)  # fmt: skip
PROGRAMS = {"bash": ["bash", "-eu", "-o", "pipefail", "-c"], "python": [sys.executable, "-c"]}


class Block(NamedTuple):
    place: str
    language: str
    tag: str
    body: str


def blocks_of(text: str, place: str) -> list[Block]:
    """The fenced blocks of a page."""
    found = []
    for match in FENCE.finditer(text):
        language, _, tag = match["info"].strip().partition(" ")
        line = text.count("\n", 0, match.start()) + 1
        body = "".join(row.removeprefix(match["indent"]) for row in match["body"].splitlines(True))
        found.append(Block(f"{place}:{line}", language, tag.strip(), body))
    return found


def targets() -> set[str]:
    """The targets that the Makefile offers."""
    text = (ROOT / "Makefile").read_text()
    return set(re.findall(r"^([a-z-]+):", text, re.M))


def routes() -> list[str]:
    """The server's paths, as patterns."""
    return [re.sub(r"{[^}]*}", "[^/]+", row.path) for row in rows()]


def check_line(line: str) -> None:
    """Raises for a line of a shell that is not true of this repository."""
    words = shlex.split(line, comments=True)
    if not words or line.startswith(OTHER_WORDS):
        return
    if words[0] == "diptych":
        parse(words[1:])
    elif words[0] == "make":
        asked = [word for word in words[1:] if "=" not in word]
        assert set(asked) <= targets(), f"the Makefile has no {set(asked) - targets()}"
    elif words[0] == "curl":
        path = urlsplit(words[1]).path
        assert any(re.fullmatch(pattern, path) for pattern in routes()), (
            f"curl asks for no route: {path}"
        )
    else:
        raise AssertionError(f"{words[0]!r} is not among what a shown block may hold")


def programs_of(blocks: list[Block]) -> list[Block]:
    """The blocks of a page, those that go on joined to the one before."""
    found: list[Block] = []
    for block in blocks:
        before = found[-1] if found else None
        goes_on = before is not None and (before.tag, before.language) == ("run", block.language)
        if block.tag == "run on" and before is not None and goes_on:
            found[-1] = before._replace(body=before.body + block.body)
        else:
            found.append(block)
    return found


BLOCKS = [
    block
    for page in PAGES
    for block in programs_of(blocks_of(page.read_text(), str(page.relative_to(ROOT))))
]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_is_true(block: Block, tmp_path: Path):
    assert block.tag in ("run", "shown"), f"{block.place} has no tag: run or shown"
    assert block.language in PROGRAMS, f"{block.place} is neither bash nor python"
    if block.tag == "run":
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(ROOT / "src"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        command = [*PROGRAMS[block.language], block.body]
        subprocess.run(command, cwd=tmp_path, env=environment, timeout=60, check=True)
    elif block.language == "python":
        compile(block.body, block.place, "exec")
    else:
        for line in block.body.replace("\\\n", " ").splitlines():
            check_line(line)


@pytest.mark.parametrize(
    "line",
    ["diptych trainn", "diptych train --listt", "make nothing-of-the-kind", "curl example.org"],
)
def test_a_wrong_line_is_found(line: str):
    with pytest.raises(Exception, match=r"train|--list|nothing|curl"):
        check_line(line)


def test_blocks_are_found_with_their_tags():
    text = "a\n```bash run\necho 1\n```\n  ```python\n  1\n  ```\n"
    found = [(b.language, b.tag, b.body) for b in blocks_of(text, "page")]
    assert found == [("bash", "run", "echo 1\n"), ("python", "", "1\n")]
    text = "```bash run\na\n```\n```bash run on\nb\n```\n```python run on\nc\n```\n"
    joined = [(b.tag, b.body) for b in programs_of(blocks_of(text, "page"))]
    assert joined == [("run", "a\nb\n"), ("run on", "c\n")]  # which is refused


def test_every_page_is_in_the_table_of_contents():
    def leaves(entry: object) -> set[str]:
        if isinstance(entry, str):
            return {entry}
        parts = entry.values() if isinstance(entry, dict) else entry
        return set[str]().union(*map(leaves, parts))

    nav = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert leaves(nav) == pages


def test_the_site_shows_every_block_as_one(tmp_path: Path):
    """A header of a fence that the builder does not know would leave the fence as text, and all
    that follows with it."""
    for name in ("docs", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("shipped"))
    (tmp_path / "zensical.toml").write_text((ROOT / "zensical.toml").read_text())
    builder = Path(sys.executable).with_name("zensical")
    subprocess.run([builder, "build", "--strict"], cwd=tmp_path, check=True, timeout=60)
    pages = sorted((tmp_path / "site").rglob("index.html"))
    assert len(pages) > 20
    assert not [page for page in pages if "```" in page.read_text()]
    blocks = (tmp_path / "site" / "solvers" / "index.html").read_text().count("<pre")
    assert blocks >= len(blocks_of((ROOT / "docs" / "solvers.md").read_text(), "")) > 2


def test_every_documented_module_is_there():
    said = {
        name
        for page in (ROOT / "docs" / "api").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)
    }
    assert len(said) > 20 and all(find_spec(name) for name in said)
