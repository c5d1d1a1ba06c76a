"""A run that was killed and a run that was not end with the same bytes."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_training import plan

from diptych.foundation.config import with_changes
from diptych.foundation.errors import InvalidValue
from diptych.training.checkpoint import latest
from diptych.training.lock import alone
from diptych.training.log import read
from diptych.training.loop import train

PROGRAM = Path(__file__).with_name("small_training.py")


def killed(folder: Path, *words: str) -> int:
    done = subprocess.run(
        [sys.executable, PROGRAM, folder, *words], capture_output=True, timeout=60
    )
    return done.returncode


def trained(folder: Path, *words: str) -> None:
    torch.set_num_threads(1)
    given = plan()
    given = dataclasses.replace(given, settings=with_changes(given.settings, words))
    assert train(given, folder).state == "finished"


def assert_same_run(one: Path, other: Path) -> None:
    first, second = latest(one), latest(other)
    assert first is not None and second is not None
    assert first.step == second.step == 20
    assert set(first.tensors) == {"model", "average", "optimizer"}
    for file, tensors in first.tensors.items():
        assert tensors.keys() == second.tensors[file].keys() and tensors
        for name, tensor in tensors.items():
            assert torch.equal(tensor, second.tensors[file][name]), f"{file}: {name}"
    lines = [[{**line, "seconds": 0} for line in read(run)] for run in (one, other)]
    assert lines[0] == lines[1]
    assert [line["step"] for line in lines[0]] == [4, 8, 12, 16, 20]


@pytest.mark.parametrize(
    "words",
    [
        ["precision=fp32"],
        ["precision=bf16", "optimizer=muon", "accumulation=2", "workers=1"],
        ["precision=fp16"],
    ],
    ids=lambda words: words[0],
)
def test_killed_and_resumed_equals_never_killed(tmp_path: Path, words: list[str]):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    at = 20 if "accumulation=2" in words else 10
    # A worker process that dies is an error of the training; die in the training itself.
    inside = [word for word in words if not word.startswith("workers")]
    assert killed(broken, f"die-at={at}", *inside) == -signal.SIGKILL
    stopped = latest(broken)
    assert stopped is not None and stopped.step == 10
    trained(broken, *words)
    trained(whole, *words)
    assert_same_run(whole, broken)


def test_a_kill_inside_a_save_costs_nothing(tmp_path: Path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert killed(broken, "die-in-save=7") == -signal.SIGKILL
    assert list((broken / "checkpoints").glob(".*.part")), "it died somewhere else"
    stopped = latest(broken)
    assert stopped is not None and stopped.step == 6
    trained(broken)
    trained(whole)
    assert_same_run(whole, broken)
    names = sorted(path.name for path in (broken / "checkpoints").iterdir())
    assert names == ["0000006", "0000020", "latest"]


def test_another_plan_is_refused_by_the_name_of_what_differs(tmp_path: Path):
    train(plan(steps=2), tmp_path)
    with pytest.raises(InvalidValue, match=r"training.learning_rate 0.001, not 0.01"):
        train(plan(steps=2, learning_rate=0.01), tmp_path)


def test_a_folder_in_which_another_training_runs_is_refused(tmp_path: Path):
    with alone(tmp_path), pytest.raises(InvalidValue, match="Another process is training"):
        train(plan(steps=2), tmp_path)
    assert train(plan(steps=2), tmp_path).state == "finished"


def test_what_leaves_the_weights_alone_may_change(tmp_path: Path):
    train(plan(steps=2), tmp_path)
    again = train(plan(steps=2, log_every=1, threads=1, minutes=3.0, save_every=5.0), tmp_path)
    assert again.state == "finished" and again.step == 2
