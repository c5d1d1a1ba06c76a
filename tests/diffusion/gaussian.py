"""Data whose denoiser is known exactly, in float64."""

from __future__ import annotations

import torch

from benchmarks.solver_orders import MEAN, START, VARIANCE
from benchmarks.solver_orders import PATH as VP
from diptych.diffusion.kernel import Table, begin, step
from diptych.diffusion.paths import FlowPath, Node, VariancePreserving

__all__ = ["FLOW", "MEAN", "START", "VP", "said", "solve"]
FLOW = FlowPath()


def clean(x: torch.Tensor, node: Node, spread: torch.Tensor = VARIANCE) -> torch.Tensor:
    """The mean of the data given x, [B, 4]."""
    variance = node.alpha**2 * spread + node.sigma**2
    return MEAN + node.alpha * spread / variance * (x - node.alpha * MEAN)


def said(prediction: str, x: torch.Tensor, node: Node, spread: torch.Tensor = VARIANCE):
    """What a perfect network of this prediction says."""
    x0 = clean(x, node, spread)
    if prediction == "x0":
        return x0
    noise = (x - node.alpha * x0) / node.sigma
    if prediction == "eps":
        return noise
    return noise - x0 if prediction == "velocity" else node.alpha * noise - node.sigma * x0


def solve(
    path: FlowPath | VariancePreserving,
    table: Table,
    prediction: str,
    x: torch.Tensor,
    spread: torch.Tensor = VARIANCE,
) -> torch.Tensor:
    """All steps with the perfect network, which finds its node by its time; no noise."""
    state = begin(x)
    for row, time in zip(table.rows, table.times, strict=True):
        node = path.at(float(time))
        state = step(state, said(prediction, state.x, node, spread), row[None])
    return state.x
