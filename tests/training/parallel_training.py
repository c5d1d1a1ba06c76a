"""What each of two processes trains; without batch statistics, which know only their own half."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from small_training import plan
from torch import nn

from diptych.training.plan import Plan


def parallel_plan(**changes: Any) -> Plan:
    made = plan(steps=12, **changes)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 16), nn.Dropout(0.2), nn.Tanh(), nn.Linear(16, 2))
    return replace(made, model=model)


if __name__ == "__main__":
    from diptych.training.loop import train

    torch.set_num_threads(1)
    train(parallel_plan(), Path(sys.argv[1]))
