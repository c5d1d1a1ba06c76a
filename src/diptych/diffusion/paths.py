"""From data to noise: x = alpha x0 + sigma noise, by the ratio rho = sigma / alpha.

A path gives alpha, sigma and what the network is told as the time, all from one float64 number,
so that they never disagree. rho runs from 0 (data) to infinity (noise alone).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, exp, inf, isinf, log, pi, sqrt
from typing import Protocol

import numpy as np

from diptych.foundation.errors import InvalidValue


@dataclass(frozen=True)
class Node:
    """A place on a path. `time` is what the network is fed."""

    rho: float
    alpha: float
    sigma: float
    time: float

    @property
    def level(self) -> float:
        """lambda = ln(alpha / sigma), half the log signal-to-noise ratio."""
        return inf if self.rho == 0 else -inf if isinf(self.rho) else -log(self.rho)


class Path(Protocol):
    """`drift` names what a solver in the path's own time integrates: `velocity` or `eps`."""

    drift: str
    start: float  # the largest rho that a model was trained at
    end: float  # the smallest

    def node(self, rho: float) -> Node:
        """The place with this ratio. Raises InvalidValue outside 0..start."""
        ...


@dataclass(frozen=True)
class FlowPath:
    """Rectified flow (Liu et al., 2022): alpha = 1 - t, sigma = t. The network is fed
    `time_scale` times t, or of 1 - t where `reversed`."""

    time_scale: float = 1.0
    reversed: bool = False
    drift = "velocity"
    start = inf
    end = 0.0

    def node(self, rho: float) -> Node:
        _refuse_outside(rho, inf)
        t = 1.0 if isinf(rho) else rho / (1 + rho)
        return Node(rho, 1 - t, t, self.time_scale * (1 - t if self.reversed else t))

    def at(self, t: float) -> Node:
        """The place at time t in 0..1."""
        _refuse_outside(t, 1.0)
        rho = inf if t == 1 else t / (1 - t)
        return Node(rho, 1 - t, t, self.time_scale * (1 - t if self.reversed else t))


@dataclass(frozen=True)
class VariancePreserving:
    """alpha^2 + sigma^2 = 1 over `rhos`, the ratio at each training step 0, 1, ... (Ho et al.,
    2020). Between steps the time is linear in ln rho."""

    rhos: tuple[float, ...]
    drift = "eps"

    @property
    def start(self) -> float:
        return self.rhos[-1]

    @property
    def end(self) -> float:
        return self.rhos[0]

    def node(self, rho: float) -> Node:
        _refuse_outside(rho, self.start)
        if isinf(rho):
            return Node(rho, 0.0, 1.0, len(self.rhos) - 1.0)
        alpha = 1 / sqrt(1 + rho * rho)
        finite = [r for r in self.rhos if not isinf(r)]
        time = 0.0 if rho == 0 else float(np.interp(log(rho), np.log(finite), range(len(finite))))
        return Node(rho, alpha, rho * alpha, time)

    def at(self, step: float) -> Node:
        """The place at a training step, whole or between two."""
        _refuse_outside(step, len(self.rhos) - 1.0)
        low = min(int(step), len(self.rhos) - 2)
        a, b, share = self.rhos[low], self.rhos[low + 1], step - low
        rho = a if share == 0 else b if share == 1 else exp((1 - share) * log(a) + share * log(b))
        return Node(rho, *self._parts(rho), step)

    def _parts(self, rho: float) -> tuple[float, float]:
        alpha = 0.0 if isinf(rho) else 1 / sqrt(1 + rho * rho)
        return alpha, 1.0 if isinf(rho) else rho * alpha


@dataclass(frozen=True)
class VarianceExploding:
    """alpha = 1, sigma = rho (Song et al., 2021). The network is fed ln(sigma) / 4 as in EDM
    (Karras et al., 2022)."""

    start: float = 80.0
    end: float = 0.002
    drift = "eps"

    def node(self, rho: float) -> Node:
        _refuse_outside(rho, self.start)
        return Node(rho, 1.0, rho, log(rho) / 4 if rho else -inf)


def vp_of_betas(betas: Sequence[float]) -> VariancePreserving:
    """The path of a discrete schedule: alpha^2 is the running product of 1 - beta."""
    kept = np.cumprod(1 - np.asarray(betas, np.float64))
    with np.errstate(divide="ignore"):
        rhos = np.sqrt((1 - kept) / kept)
    return VariancePreserving(tuple(map(float, rhos)))


def linear_betas(first: float = 1e-4, last: float = 0.02, steps: int = 1000) -> list[float]:
    """Ho et al., 2020, section 4."""
    return list(map(float, np.linspace(first, last, steps)))


def scaled_linear_betas(
    first: float = 0.00085, last: float = 0.012, steps: int = 1000
) -> list[float]:
    """Linear in the square root: latent diffusion (Rombach et al., 2022)."""
    return [b * b for b in linear_betas(sqrt(first), sqrt(last), steps)]


def cosine_betas(steps: int = 1000, offset: float = 0.008, most: float = 0.999) -> list[float]:
    """Nichol and Dhariwal, 2021, eq. 17."""

    def kept(i: int) -> float:
        return cos((i / steps + offset) / (1 + offset) * pi / 2) ** 2

    return [min(1 - kept(i + 1) / kept(i), most) for i in range(steps)]


def zero_terminal(path: VariancePreserving) -> VariancePreserving:
    """The path shifted and stretched so that its last step is noise alone and its first stays
    (Lin et al., 2024, algorithm 1)."""
    alphas = 1 / np.sqrt(1 + np.asarray(path.rhos) ** 2)
    moved = (alphas - alphas[-1]) * alphas[0] / (alphas[0] - alphas[-1])
    with np.errstate(divide="ignore"):
        rhos = np.sqrt(1 - moved**2) / moved
    return VariancePreserving(tuple(map(float, rhos)))


def _refuse_outside(value: float, most: float) -> None:
    if not 0 <= value <= most * (1 + 1e-12):
        raise InvalidValue(f"{value:g} lies outside the path, 0 to {most:g}.")
