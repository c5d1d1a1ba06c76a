"""`training.compile`: nearly the same losses, and the same bytes after a kill."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_training import batch_at, plan
from torch import Tensor, nn

from diptych.objectives.loss import Loss
from diptych.training.checkpoint import latest
from diptych.training.log import read
from diptych.training.loop import train

PROGRAM = Path(__file__).with_name("small_training.py")
COMPILERS = [os.environ.get("CXX", "g++"), "clang++"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # torch's compiler uses what torch deprecates.
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning"),
    pytest.mark.skipif(
        not any(map(shutil.which, COMPILERS)),
        reason="torch.compile needs a C++ compiler, and there is none",
    ),
]


class Smooth(nn.Module):
    """No dropout: a compiled model draws other masks from the same seed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 2))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            self.calls += 1
        return self.net(x)


def error(model: nn.Module, batch: dict[str, Tensor], _: torch.Generator) -> Loss:
    return Loss((model(batch["x"]).float() - batch["y"]).square().mean())


def test_six_compiled_steps_give_nearly_the_same_losses(tmp_path: Path):
    losses: dict[bool, list[float]] = {}
    for compiled in (False, True):
        settings = plan(steps=6, warmup=2, log_every=1, compile=compiled).settings
        made = dataclasses.replace(
            plan(), model=Smooth(), objective=error, batch_at=batch_at, settings=settings
        )
        run = tmp_path / str(compiled)
        assert train(made, run).state == "finished"
        losses[compiled] = [line["loss"] for line in read(run)]
        assert isinstance(made.model, Smooth)
        assert made.model.calls == (0 if compiled else 6), "compiled or not, the other was asked"
    assert len(losses[True]) == 6 and losses[True][-1] != losses[True][0]
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)


def test_a_compiled_run_that_was_killed_ends_with_the_same_bytes(tmp_path: Path):
    """With dropout, batch statistics and noise in the objective."""
    words = ["steps=6", "compile=true", "log_every=1"]
    command = [sys.executable, PROGRAM, tmp_path / "broken", "die-at=3", *words]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    stopped = latest(tmp_path / "broken")
    assert stopped is not None and stopped.step == 3
    torch.set_num_threads(1)
    for run in ("broken", "whole"):
        assert train(plan(steps=6, compile=True, log_every=1), tmp_path / run).step == 6
    broken, whole = latest(tmp_path / "broken"), latest(tmp_path / "whole")
    assert broken is not None and whole is not None
    assert set(whole.tensors) == {"model", "average", "optimizer"}
    for file, tensors in whole.tensors.items():
        assert tensors.keys() == broken.tensors[file].keys() and tensors
        for name, tensor in tensors.items():
            assert torch.equal(tensor, broken.tensors[file][name]), f"{file}: {name}"
    lines = [
        [{**line, "seconds": 0} for line in read(tmp_path / run)] for run in ("broken", "whole")
    ]
    assert lines[0] == lines[1]
