"""The order of every solver, measured against the exact solution for Gaussian data.

    python -m benchmarks.solver_orders

Float64, four numbers of mean and variance of their own, 32 to 512 steps even in lambda between -4
and 4 of a variance preserving path. Ends with 1 if a solver does not reach the order it states.
"""

from __future__ import annotations

import sys
from math import log2

import numpy as np
import torch

from diptych.diffusion.kernel import begin, step
from diptych.diffusion.paths import Node, VariancePreserving
from diptych.diffusion.solvers import SOLVERS, table_of
from diptych.diffusion.spacings import even_levels

PATH = VariancePreserving(tuple(map(float, np.exp(np.linspace(-4, 4, 1001)))))
MEAN = torch.tensor([[0.3, -1.2, 2.0, 0.1]], dtype=torch.float64)
VARIANCE = torch.tensor([[1.0, 0.25, 4.0, 0.05]], dtype=torch.float64)
START = torch.tensor([[0.4, -1.1, 0.7, 1.9]], dtype=torch.float64)
STEPS = (32, 64, 128, 256, 512)
SLACK = 0.2


def noise_of(x: torch.Tensor, node: Node) -> torch.Tensor:
    """What a perfect network that predicts noise says."""
    spread = node.alpha**2 * VARIANCE + node.sigma**2
    return node.sigma * (x - node.alpha * MEAN) / spread


def error(name: str, steps: int) -> float:
    """The largest difference to where the probability flow ends."""
    nodes = even_levels(PATH, steps, -4, 4)
    first, last = nodes[0], nodes[-1]
    table, state = table_of(name, PATH, nodes, "eps"), begin(START)
    for row, time in zip(table.rows, table.times, strict=True):
        state = step(state, noise_of(state.x, PATH.at(float(time))), row[None])
    before = first.alpha**2 * VARIANCE + first.sigma**2
    after = last.alpha**2 * VARIANCE + last.sigma**2
    exact = last.alpha * MEAN + (after / before).sqrt() * (START - first.alpha * MEAN)
    return float((state.x - exact).abs().max())


def main() -> int:
    quiet = [name for name in SOLVERS if not table_of(
        name, PATH, even_levels(PATH, 4, -4, 4), "eps").noisy.any()]  # fmt: skip
    print(f"{'solver':10} stated  measured  error at {', '.join(map(str, STEPS))} steps")
    failed = 0
    for name in quiet:
        errors = [error(name, steps) for steps in STEPS]
        measured, stated = log2(errors[-2] / errors[-1]), SOLVERS[name].order
        failed += measured < stated - SLACK
        shown = "  ".join(f"{value:.1e}" for value in errors)
        print(f"{name:10} {stated:6} {measured:9.2f}  {shown}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
