"""What an earlier stage trained, for a recipe that goes on from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from diptych.checkpoints.folder import load_network

M = TypeVar("M", bound=nn.Module)


def stage(kind: type[M], config: Any, folder: str | Path) -> M:
    """The network in a run folder, in evaluation mode; raises as `load_network` does.

    On the meta device, where a recipe is only looked at, `kind(config)` and no file is read.
    """
    if torch.get_default_device().type == "meta":
        return kind(config).eval().requires_grad_(False)
    return load_network(Path(folder), kind)
