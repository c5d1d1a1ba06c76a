"""The page of families is what the code says, and its proofs exist."""

from __future__ import annotations

from pathlib import Path

from benchmarks.families_page import ANSWERS, NETWORKS, PAGE, PICTURES, page
from diptych.checkpoints.presets import PRESETS

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


def test_every_preset_is_there_and_said_once():
    said = [name for entry in NETWORKS.values() for name in entry.presets]
    assert len(said) == len(set(said))
    assert set(PRESETS) - set(said) == {
        "edm",
        "flux2",
        "sana",
        "diptych-flow",
    }  # no network of these
