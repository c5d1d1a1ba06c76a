"""Data whose denoiser and ODE are known exactly, in float64."""

from __future__ import annotations

import numpy as np
import torch

from diptych.diffusion.kernel import Table, begin, step
from diptych.diffusion.paths import FlowPath, Node, Path, VariancePreserving

MEAN = torch.tensor([0.3, -1.2, 2.0, 0.1], dtype=torch.float64)
SPREAD = torch.tensor([1.0, 0.25, 4.0, 0.05], dtype=torch.float64)  # variances
VP = VariancePreserving(tuple(map(float, np.exp(np.linspace(-4, 4, 1001)))))
FLOW = FlowPath()
START = torch.tensor([[0.4, -1.1, 0.7, 1.9]], dtype=torch.float64)


def clean(x: torch.Tensor, node: Node, spread: torch.Tensor = SPREAD) -> torch.Tensor:
    """The mean of the data given x, [B, 4]."""
    variance = node.alpha**2 * spread + node.sigma**2
    return MEAN + node.alpha * spread / variance * (x - node.alpha * MEAN)


def said(prediction: str, x: torch.Tensor, node: Node, spread: torch.Tensor = SPREAD):
    """What a perfect network of this prediction says."""
    x0 = clean(x, node, spread)
    if prediction == "x0":
        return x0
    noise = (x - node.alpha * x0) / node.sigma
    if prediction == "eps":
        return noise
    return noise - x0 if prediction == "velocity" else node.alpha * noise - node.sigma * x0


def exact(x: torch.Tensor, s: Node, t: Node) -> torch.Tensor:
    """Where the probability flow takes x from s to t."""
    ratio = (t.alpha**2 * SPREAD + t.sigma**2) / (s.alpha**2 * SPREAD + s.sigma**2)
    return t.alpha * MEAN + ratio.sqrt() * (x - s.alpha * MEAN)


def solve(path: Path, table: Table, prediction: str, x: torch.Tensor, spread=SPREAD):
    """All steps with the perfect network, which finds its node by its time; no noise."""
    state = begin(x)
    for row, time in zip(table.rows, table.times, strict=True):
        node = path.at(time)  # type: ignore[attr-defined]
        state = step(state, said(prediction, state.x, node, spread), row[None])
    return state.x
