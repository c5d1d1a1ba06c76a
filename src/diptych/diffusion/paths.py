"""From data to noise: x = alpha x0 + sigma noise, by the ratio rho = sigma / alpha.

A path gives alpha, sigma and what the network is told as the time, all from one float64 number,
so that they never disagree. rho runs from 0 (data) to infinity (noise alone).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import cos, exp, inf, isinf, log, log1p, pi, sqrt
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

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


class Path(ABC):
    """`drift`: what a solver in the path's own time integrates, `velocity` or `eps`. `start` and
    `end`: the largest and smallest rho that a model was trained at. Own time runs from 0 (data)
    to `last` (`start`; 0 where a path has none); where it counts training steps from 0, there
    are `steps` of them, else 0.
    """

    drift: ClassVar[str]
    start: float
    end: float
    last: float
    steps: int

    @abstractmethod
    def node(self, rho: float) -> Node:
        """The place with this ratio. Raises InvalidValue outside 0..start."""

    @abstractmethod
    def at(self, time: float) -> Node:
        """The place at this own time. Raises InvalidValue outside 0..last."""


@dataclass(frozen=True)
class FlowPath(Path):
    """Rectified flow (Liu et al., 2022): alpha = 1 - t, sigma = t. The network is fed
    `time_scale` times t, or of 1 - t where `reversed`."""

    time_scale: float = 1.0
    reversed: bool = False
    drift: ClassVar[str] = "velocity"
    start: ClassVar[float] = inf
    end: ClassVar[float] = 0.0
    last: ClassVar[float] = 1.0
    steps: ClassVar[int] = 0

    def node(self, rho: float) -> Node:
        _refuse_outside(rho, inf)
        return self._node(rho, 1.0 if isinf(rho) else rho / (1 + rho))

    def at(self, time: float) -> Node:
        _refuse_outside(time, 1.0)
        return self._node(inf if time == 1 else time / (1 - time), time)

    def _node(self, rho: float, t: float) -> Node:
        return Node(rho, 1 - t, t, self.time_scale * (1 - t if self.reversed else t))


@dataclass(frozen=True)
class VariancePreserving(Path):
    """alpha^2 + sigma^2 = 1 over `rhos`, the ratio at each training step 0, 1, ... (Ho et al.,
    2020). Between steps the time is linear in ln rho, before noise alone linear in alpha."""

    rhos: tuple[float, ...]
    drift: ClassVar[str] = "eps"

    @property
    def start(self) -> float:
        return self.rhos[-1]

    @property
    def end(self) -> float:
        return self.rhos[0]

    @property
    def last(self) -> float:
        return len(self.rhos) - 1.0

    @property
    def steps(self) -> int:
        return len(self.rhos)

    @cached_property
    def _logs(self) -> NDArray[np.float64]:
        return np.log([rho for rho in self.rhos if not isinf(rho)])

    def node(self, rho: float) -> Node:
        _refuse_outside(rho, self.start)
        finite = len(self._logs)
        if rho > self.rhos[finite - 1] and finite < self.steps:
            share = 1 - _vp(rho)[0] / _vp(self.rhos[finite - 1])[0]
            return Node(rho, *_vp(rho), finite - 1 + share)
        time = 0.0 if rho == 0 else float(np.interp(log(rho), self._logs, np.arange(finite)))
        return Node(rho, *_vp(rho), time)

    def at(self, time: float) -> Node:
        _refuse_outside(time, self.last)
        low = min(int(time), self.steps - 2)
        a, b, share = self.rhos[low], self.rhos[low + 1], time - low
        if isinf(b):
            alpha = _vp(a)[0] * (1 - share)
            rho = inf if alpha == 0 else sqrt(1 - alpha**2) / alpha
        else:
            rho = exp((1 - share) * log(a) + share * log(b))
        rho = a if share == 0 else b if share == 1 else rho
        return Node(rho, *_vp(rho), time)


@dataclass(frozen=True)
class ContinuousVP(Path):
    """The VP SDE of Song et al., 2021, eq. 11 and 33, ln alpha = -(t^2 (high - low) / 4 + t low
    / 2) for t in 0..1; `sub`: their sub-VP SDE (eq. 13), sigma = 1 - alpha^2. The network is fed
    `time_scale` times t; it was trained from t = `first` on."""

    low: float = 0.1
    high: float = 20.0
    sub: bool = False
    time_scale: float = 999.0
    first: float = 1e-3
    drift: ClassVar[str] = "eps"
    last: ClassVar[float] = 1.0
    steps: ClassVar[int] = 0

    @property
    def start(self) -> float:
        return self.at(1.0).rho

    @property
    def end(self) -> float:
        return self.at(self.first).rho

    def node(self, rho: float) -> Node:
        _refuse_outside(rho, self.start)
        # sub-VP: alpha^2 + rho alpha = 1.
        alpha = (sqrt(rho * rho + 4) - rho) / 2 if self.sub else _vp(rho)[0]
        spent = log1p(rho * rho) / 2 if not self.sub else -log(alpha)
        half = self.low / 2
        t = 2 * spent / (half + sqrt(half * half + (self.high - self.low) * spent))
        return Node(rho, alpha, rho * alpha, self.time_scale * t)

    def at(self, time: float) -> Node:
        _refuse_outside(time, 1.0)
        spent = time * time * (self.high - self.low) / 4 + time * self.low / 2
        alpha, left = exp(-spent), -np.expm1(-2 * spent)
        sigma = float(left if self.sub else sqrt(left))
        return Node(sigma / alpha, alpha, sigma, self.time_scale * time)


@dataclass(frozen=True)
class VarianceExploding(Path):
    """alpha = 1, sigma = rho (Song et al., 2021), which `at` takes: it has no time of its own. The
    network is fed ln(sigma) / 4 as in EDM (Karras et al., 2022)."""

    start: float = 80.0
    end: float = 0.002
    drift: ClassVar[str] = "eps"
    last: ClassVar[float] = 0.0
    steps: ClassVar[int] = 0

    def node(self, rho: float) -> Node:
        _refuse_outside(rho, self.start)
        return Node(rho, 1.0, rho, log(rho) / 4 if rho else -inf)

    def at(self, time: float) -> Node:
        return self.node(time)


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


def sigmoid_betas(first: float = 1e-4, last: float = 0.02, steps: int = 1000) -> list[float]:
    """A logistic curve over -6..6 between the two (Xu et al., 2022, GeoDiff)."""
    return [first + (last - first) / (1 + exp(-float(z))) for z in np.linspace(-6, 6, steps)]


def zero_terminal(path: VariancePreserving) -> VariancePreserving:
    """The path shifted and stretched so that its last step is noise alone and its first stays
    (Lin et al., 2024, algorithm 1)."""
    alphas = 1 / np.sqrt(1 + np.asarray(path.rhos) ** 2)
    moved = (alphas - alphas[-1]) * alphas[0] / (alphas[0] - alphas[-1])
    with np.errstate(divide="ignore"):
        rhos = np.sqrt(1 - moved**2) / moved
    return VariancePreserving(tuple(map(float, rhos)))


def _vp(rho: float) -> tuple[float, float]:
    """alpha and sigma where their squares sum to one."""
    if isinf(rho):
        return 0.0, 1.0
    alpha = 1 / sqrt(1 + rho * rho)
    return alpha, rho * alpha


def _refuse_outside(value: float, most: float) -> None:
    if not 0 <= value <= most * (1 + 1e-12):
        raise InvalidValue(f"{value:g} lies outside the path, 0 to {most:g}.")
