"""`diptych train` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diptych.cli.main import entry

SHORT = ["--steps", "4", "--set", "training.trackers=", "training.log_every=2", "batch=8"]


def test_the_list_names_every_recipe(capsys: pytest.CaptureFixture[str]):
    from diptych.recipes.table import RECIPES

    assert entry(["train", "--list"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in RECIPES)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["train"], 2, "diptych train --list"),
        (["train", "curv-flow"], 3, "Did you mean 'curve-flow'?"),
        (["train", "curve-flow", "--set", "training.setps=3"], 2, "Did you mean 'steps'?"),
        (["train", "curve-flow", "--set", "training.optimizer=moun"], 2, "Did you mean 'muon'?"),
        (["train", "curve-flow", "--set", "training.trackers=tensorbord"], 2, "'tensorboard'"),
        (["train", "curve-flow", "--set", "training.learning_rate=fast"], 2, "a number"),
        (["train", "curve-flow", "--steps", "0"], 2, "at least 1"),
        (["train", "curve-flow", "--data", "x"], 2, "no setting 'data'"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(
    capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
):
    assert entry(words) == code
    assert said in capsys.readouterr().err


def test_a_run_goes_on_and_then_says_that_it_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    again = ["train", "curve-flow", "--run", str(tmp_path)]
    assert entry([*again, *SHORT, "training.minutes=1e-9", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["state"], first["step"], first["steps"]) == ("paused", 1, 4)
    # The values given at the start are kept: the second call does not repeat them.
    assert entry([*again, "--set", "training.minutes=5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "finished"
    for name in ("model.safetensors", "config.json", "run.json", "loss.png", "log.jsonl"):
        assert (tmp_path / name).stat().st_size > 0
    weights = (tmp_path / "model.safetensors").read_bytes()
    assert entry(again) == 0
    assert "Finished after 4 steps" in capsys.readouterr().out
    assert (tmp_path / "model.safetensors").read_bytes() == weights
    assert entry([*again, "--steps", "9"]) == 2
    assert "training.steps 4, not 9" in capsys.readouterr().err
