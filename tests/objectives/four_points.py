"""Four equiprobable points: the best network for them is known, and so is what it still loses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from diptych.diffusion.paths import FlowPath, Path, VarianceExploding, VariancePreserving
from diptych.objectives.denoising import Denoising, Noised, noised_at, squared_errors
from diptych.objectives.places import Places, at_rhos

POINTS = torch.tensor([-1.5, -0.2, 0.4, 1.9], dtype=torch.float64)
VP = VariancePreserving(tuple(map(float, np.exp(np.linspace(-13, 13, 1001)))))
PATHS: dict[str, Path] = {
    "eps": VP,
    "v": VP,
    "x0": VP,
    "velocity": FlowPath(),
    "edm": VarianceExploding(np.exp(13.0), np.exp(-13.0)),
}
SPREAD = 0.5

Quadrature = tuple[Tensor, Tensor]  # nodes and weights of a standard normal


def hermite(count: int = 200) -> Quadrature:
    nodes, weights = np.polynomial.hermite.hermgauss(count)
    return torch.tensor(nodes * np.sqrt(2)), torch.tensor(weights / np.sqrt(np.pi))


def even(count: int = 400, end: float = 9.0) -> Quadrature:
    """The trapezoidal rule: better than Gauss and Hermite where the posterior is steep."""
    nodes = torch.linspace(-end, end, count, dtype=torch.float64)
    weights = (-nodes.square() / 2).exp()
    return nodes, weights / weights.sum()


def best_x0(x: Tensor, at: Places) -> Tensor:
    """The mean of the points given x [B, 1]."""
    alpha, sigma = at.alpha[:, None], at.sigma[:, None]
    chances = (-(x - alpha * POINTS).square() / (2 * sigma.square())).softmax(-1)
    return (chances * POINTS).sum(-1, keepdim=True)


def as_said(prediction: str, x: Tensor, x0: Tensor, at: Places) -> Tensor:
    """What a network says that takes x0 for the data behind x, both [B, 1]."""
    alpha, sigma = at.alpha[:, None], at.sigma[:, None]
    noise = (x - alpha * x0) / sigma
    if prediction == "edm":
        variance = sigma.square() + SPREAD**2
        return (x0 - SPREAD**2 / variance * x) / (sigma * SPREAD / variance.sqrt())
    return {
        "eps": noise,
        "v": alpha * noise - sigma * x0,
        "x0": x0,
        "velocity": noise - x0,
    }[prediction]


def best(point: Noised, prediction: str) -> Tensor:
    """What the best network says at a point."""
    variance = point.at.sigma[:, None].square() + SPREAD**2
    x = point.x * variance.sqrt() if prediction == "edm" else point.x
    return as_said(prediction, x, best_x0(x, point.at), point.at)


def expected(
    config: Denoising,
    rhos: Tensor,
    quadrature: Quadrature,
    say: Callable[[Noised, str], Tensor] = best,
) -> tuple[Tensor, Tensor, Places]:
    """The expectation over points and noise of the own squared error, of the loss, [L] each at
    these ratios, and the places there."""
    nodes, weights = quadrature
    shape = (len(rhos), len(POINTS), len(nodes))
    x0 = POINTS[:, None].expand(shape).reshape(-1, 1)
    noise = nodes.expand(shape).reshape(-1, 1)
    path = PATHS[config.prediction]
    at = at_rhos(path, rhos[:, None, None].expand(shape).reshape(-1))
    point = noised_at(path, x0, noise, at, config)
    squares = squared_errors(point, say(point, config.prediction))
    rows = torch.stack([squares[:, 0], squares[:, 0] * point.weight])
    own, loss = (rows.view(2, *shape) * weights).sum(-1).mean(-1)
    return own, loss, at_rhos(path, rhos)
