"""First noise, drawn row by row, so that a row does not know its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diptych.foundation.randomness import mix


def first_noise(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise [len(seeds), *shape] on the CPU, each row from its own seed."""
    rows = [torch.randn(shape, generator=torch.Generator().manual_seed(mix(s))) for s in seeds]
    return torch.stack(rows)
