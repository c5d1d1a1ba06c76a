"""Where a solver stops on its way from noise to data: lists of nodes, noise first."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import exp, inf, isinf, log

import numpy as np

from diptych.diffusion.paths import FlowPath, Node, Path
from diptych.foundation.errors import InvalidValue

MOST_STEPS = 1000


def shifted_times(path: FlowPath, steps: int, shift: float = 1.0) -> list[Node]:
    """Times from 1 to 0, even before they are moved towards noise by `shift`:
    t' = shift t / (1 + (shift - 1) t) (Esser et al., 2024, eq. 23)."""
    _refuse_steps(steps)
    if not shift > 0 or isinf(shift):
        raise InvalidValue(f"A shift of {shift} is not offered.", do="Choose one above 0.")
    times = [1 - i / steps for i in range(steps + 1)]
    return [path.at(shift * t / (1 + (shift - 1) * t)) for t in times]


def even_levels(path: Path, steps: int, first: float, last: float) -> list[Node]:
    """lambda even between two finite values, the last node included."""
    _refuse_steps(steps)
    return [path.node(exp(-level)) for level in np.linspace(first, last, steps + 1)]


def karras(path: Path, steps: int, power: float = 7.0) -> list[Node]:
    """rho even in its `power`-th root, then 0 (Karras et al., 2022, eq. 5)."""
    _refuse_steps(steps)
    low, high = _finite_range(path, "karras")
    roots = np.linspace(high ** (1 / power), low ** (1 / power), steps)
    return _to_data(path, [min(float(root) ** power, high) for root in roots])


def exponential(path: Path, steps: int) -> list[Node]:
    """ln rho even over the range that was trained, then 0."""
    _refuse_steps(steps)
    low, high = _finite_range(path, "exponential")
    levels = np.linspace(log(high), log(low), steps)
    return _to_data(path, [min(exp(level), high) for level in levels])


def custom(path: Path, rhos: Sequence[float]) -> list[Node]:
    """Ratios of one's own; they must fall."""
    if len(rhos) < 2 or any(b >= a for a, b in itertools.pairwise(rhos)):
        raise InvalidValue("The ratios of a custom list must fall, two or more of them.")
    return [path.node(rho) for rho in rhos]


def _to_data(path: Path, rhos: Sequence[float]) -> list[Node]:
    return [*map(path.node, rhos), path.node(0.0)]


def _finite_range(path: Path, name: str) -> tuple[float, float]:
    if path.start == inf or path.end == 0:
        raise InvalidValue(
            f"A {name} list needs a path with a first and a last ratio; a flow has none.",
            do="Choose even times with a shift.",
        )
    return path.end, path.start


def _refuse_steps(steps: int) -> None:
    if not 1 <= steps <= MOST_STEPS:
        raise InvalidValue(f"{steps} steps are not offered.", do=f"Choose 1 to {MOST_STEPS}.")
