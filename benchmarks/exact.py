"""Data whose denoiser is known exactly: what a perfect network would say, in float64.

Tests and benchmarks of solvers ask these in place of a network: x = alpha x0 + sigma noise at a
node, so that all that is wrong with an answer is the solver's doing. Of each kind of data, x0 is
the posterior mean and the score the gradient of the log density of x; no formula divides by
sigma, so that small sigma costs no digits. `x` is [B, ...] everywhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log, pi

import torch
from torch import Tensor

from diptych.diffusion.kernel import Table, begin, step
from diptych.diffusion.paths import Node


@dataclass(frozen=True, eq=False)
class Exact(ABC):
    """What all kinds of data share; a kind has `x0`, `score` and `log_density`."""

    @abstractmethod
    def x0(self, x: Tensor, node: Node) -> Tensor:
        """The mean of the data given x, [B, ...]."""

    @abstractmethod
    def score(self, x: Tensor, node: Node) -> Tensor:
        """The gradient of `log_density` by x, [B, ...]. Raises ValueError for a point at
        sigma = 0, where there is no density."""

    @abstractmethod
    def log_density(self, x: Tensor, node: Node) -> Tensor:
        """ln p(x) at this node in nats, [B]."""

    def says(self, prediction: str, x: Tensor, node: Node) -> Tensor:
        """The output of a perfect network: `x0`, `score`, `eps`, `v` = alpha eps - sigma x0 or
        `velocity` = eps - x0. Raises KeyError for another name."""
        if prediction == "x0":
            return self.x0(x, node)
        score = self.score(x, node)
        if prediction == "score":
            return score
        eps = -node.sigma * score  # Tweedie: x = alpha x0 - sigma^2 score
        if prediction == "eps":
            return eps
        on_eps, on_x0 = {"v": (node.alpha, -node.sigma), "velocity": (1.0, -1.0)}[prediction]
        return on_eps * eps + on_x0 * self.x0(x, node)


@dataclass(frozen=True, eq=False)
class Gaussian(Exact):
    """Independent normal numbers; `mean` and `variance` broadcast to x."""

    mean: Tensor
    variance: Tensor

    def x0(self, x: Tensor, node: Node) -> Tensor:
        spread = _spread(self.variance, node)
        gain = torch.where(self.variance == 0, 0.0, node.alpha * self.variance / spread)
        return self.mean + gain * (x - node.alpha * self.mean)

    def score(self, x: Tensor, node: Node) -> Tensor:
        return (node.alpha * self.mean - x) / _positive(_spread(self.variance, node))

    def log_density(self, x: Tensor, node: Node) -> Tensor:
        return (
            _log_normal(x, node.alpha * self.mean, _spread(self.variance, node)).flatten(1).sum(1)
        )

    def solution(self, x: Tensor, start: Node, end: Node) -> Tensor:
        """Where the probability flow carries x from `start` to `end`, in either direction."""
        ratio = _spread(self.variance, end) / _positive(_spread(self.variance, start))
        return end.alpha * self.mean + ratio.sqrt() * (x - start.alpha * self.mean)


@dataclass(frozen=True, eq=False)
class Point(Gaussian):
    """All data is `mean`: a solver must return it whatever the number of its steps."""

    variance: Tensor = field(init=False, default=torch.zeros((), dtype=torch.float64))


@dataclass(frozen=True, eq=False)
class Mixture(Exact):
    """K Gaussians: `weights` [K] that sum to 1, `means` and `variances` [K, ...]."""

    weights: Tensor
    means: Tensor
    variances: Tensor

    def x0(self, x: Tensor, node: Node) -> Tensor:
        parts = Gaussian(self.means, self.variances).x0(x[:, None], node)
        return self._averaged(parts, x, node)

    def score(self, x: Tensor, node: Node) -> Tensor:
        parts = Gaussian(self.means, self.variances).score(x[:, None], node)
        return self._averaged(parts, x, node)

    def log_density(self, x: Tensor, node: Node) -> Tensor:
        return self._log_joint(x, node).logsumexp(1)

    def _averaged(self, parts: Tensor, x: Tensor, node: Node) -> Tensor:
        """The components' answers [B, K, ...] by their shares in x."""
        shares = self._log_joint(x, node).softmax(1)
        return (shares.view(*shares.shape, *[1] * (x.ndim - 1)) * parts).sum(1)

    def _log_joint(self, x: Tensor, node: Node) -> Tensor:
        """ln(weight x density) of each component, [B, K]."""
        spread = _spread(self.variances, node)
        logs = _log_normal(x[:, None], node.alpha * self.means, _positive(spread))
        return self.weights.log() + logs.flatten(2).sum(2)


def solve(
    data: Exact,
    table: Table,
    prediction: str,
    x: Tensor,
    noises: Sequence[Tensor] | None = None,
) -> Tensor:
    """x [B, ...] carried through all evaluations of a table. `noises`: one [B, ...] for each
    evaluation, read where the table adds noise. `Table.scale` is for networks and has no part."""
    state = begin(x)
    for i, (node, by) in enumerate(zip(table.nodes, table.coefficients(x), strict=True)):
        noise = noises[i] if noises is not None and table.noisy[i] else None
        state = step(state, data.says(prediction, state.x, node), by, noise)
    return state.x


def _spread(variance: Tensor, node: Node) -> Tensor:
    return node.alpha**2 * variance + node.sigma**2


def _positive(spread: Tensor) -> Tensor:
    if not bool((spread > 0).all()):
        raise ValueError("a point has no density at sigma = 0")
    return spread


def _log_normal(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return -0.5 * ((x - mean).square() / variance + variance.log() + log(2 * pi))
