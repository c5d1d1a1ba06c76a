"""The page of families is what the code says, and its proofs exist."""

from __future__ import annotations

from pathlib import Path

from benchmarks.families_page import ANSWERS, NETWORKS, PAGE, PICTURES, page

ORACLES = Path(__file__).parents[1] / "oracles"


def test_the_page_is_current():
    assert PAGE.read_text() == page(), "python -m benchmarks.families_page"


def test_every_proof_is_there():
    for name in [
        *(entry.proof for entry in NETWORKS.values()),
        *PICTURES.values(),
        *ANSWERS.values(),
    ]:
        assert (ORACLES / f"{name}.py").is_file(), name
