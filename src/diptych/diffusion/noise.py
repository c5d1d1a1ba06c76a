"""First noise, drawn row by row, so that a row does not know its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diptych.foundation.randomness import mix


def first_noise(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise [len(seeds), *shape] on the CPU, each row from its own seed."""
    return _rows([mix(seed) for seed in seeds], shape)


def step_noise(seeds: Sequence[int], step: int, shape: tuple[int, ...]) -> Tensor:
    """Fresh noise [len(seeds), *shape] for one step: it depends on its seed and the step alone,
    so a row draws the same whenever it joined and whoever is beside it."""
    return _rows([mix(seed, step, 1) for seed in seeds], shape)


def _rows(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    return torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )
