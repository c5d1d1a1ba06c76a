"""A plan small enough for many runs, with dropout, a buffer, randomness in the objective and
two shapes of matrices; also a program that trains it, to be killed."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.objectives.loss import Loss
from diptych.training.plan import Plan, Settings


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.point_in = nn.Linear(3, 16)
        self.hidden = nn.Sequential(*(nn.Linear(16, 16, bias=i > 0) for i in range(3)))
        self.wide = nn.Linear(16, 24)
        self.norm = nn.BatchNorm1d(24)
        self.point_out = nn.Linear(24, 2)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(self.point_in(x).tanh()).tanh()
        return self.point_out(self.dropout(self.norm(self.wide(h))))


def objective(model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Loss:
    noise = 0.1 * torch.randn(batch["x"].shape, generator=generator)
    error = (model(batch["x"] + noise).float() - batch["y"]).square().mean()
    return Loss(error + 0.01 * error, {"error": error})


def batch_at(index: int) -> dict[str, Tensor]:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(index))
    return {"x": x, "y": torch.stack([x.prod(-1), x.sum(-1)], dim=-1)}


def plan(**changes: Any) -> Plan:
    torch.manual_seed(0)
    given: dict[str, Any] = {"steps": 20, "warmup": 3, "ema": 0.9, "workers": 0, "log_every": 4}
    given |= {"trackers": (), "precision": "fp32", "save_every": 1e9}
    return Plan(
        model=Net(), objective=objective, batch_at=batch_at, settings=Settings(**given | changes)
    )


def kill_at(step: int, wanted: Plan) -> Plan:
    """The plan of a process that dies, without a chance to tidy, when it asks for that batch."""

    def batch(index: int) -> Any:
        if index == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return batch_at(index)

    return dataclasses.replace(wanted, batch_at=batch)


def main(folder: str, *words: str) -> None:
    from diptych.foundation.config import with_changes
    from diptych.training.loop import train

    torch.set_num_threads(1)
    made = plan(save_every=1e-9)
    made = dataclasses.replace(made, settings=with_changes(made.settings, words[1:]))
    kind, _, step = words[0].partition("=")
    if kind == "die-at":
        made = kill_at(int(step), made)
    else:
        _die_in_save(int(step))
    train(made, Path(folder))


def _die_in_save(step: int) -> None:
    """Die between two files of that step's checkpoint."""
    from diptych.training import checkpoint

    real = checkpoint.save_file

    def write(tensors: Any, path: Path) -> None:
        real(tensors, path)
        if f"{step:07d}" in str(path) and path.name.startswith("optimizer"):
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.save_file = write


if __name__ == "__main__":
    main(*sys.argv[1:])
