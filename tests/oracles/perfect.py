"""Their schedulers and our tables with the perfect network of Gaussian data, whose way is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peers import FLOW, VP, ve, vp
from torch import Tensor

from benchmarks.exact import Gaussian, solve
from benchmarks.solver_orders import GAUSSIAN
from diptych.diffusion.paths import Node, Path
from diptych.diffusion.solvers import table_of

DATA = Gaussian(GAUSSIAN.mean.view(1, 4, 1, 1), GAUSSIAN.variance.view(1, 4, 1, 1))
DRAWN = torch.tensor([0.8, 0.2, 0.1, -0.6], dtype=torch.float64).view(1, 4, 1, 1)

# Where the perfect network believes to be: at the ratio of the step, or at the time it hears.
At = Callable[[Any, int, float], Node]


def near(value: float) -> Any:
    """To the two digits that docs/disagreements.md shows."""
    return pytest.approx(value, rel=0.05)


def by_ratio(peer: Any, i: int, time: float) -> Node:
    return vp(float(peer.sigmas[i]), time)


def by_sigma(peer: Any, i: int, time: float) -> Node:
    return FLOW.at(float(peer.sigmas[i]))


def by_step(peer: Any, i: int, time: float) -> Node:
    """The training step; a negative one counts from the end, as their tables do."""
    return VP.at(time % 1000)


def by_flow_time(peer: Any, i: int, time: float) -> Node:
    return FLOW.at(time / 1000)


def begin_at(node: Node) -> Tensor:
    return node.alpha * DATA.mean + node.sigma * DRAWN


def end_of(peer: Any, prediction: str, at: At, first: Node, data: Gaussian = DATA) -> Tensor:
    """Where their steps end, begun at `first`; float32 as they are used."""
    x = begin_at(first).float()
    for i, t in enumerate(peer.timesteps):
        out = data.says(prediction, x.double(), at(peer, i, float(t))).float()
        x = peer.step(out, t, x, return_dict=False)[0]
    return x.double()


def missed_by(peer: Any, prediction: str, at: At, first: Node, last: Node | None = None) -> float:
    """How far their end lies from where the flow takes the same start, to data by default."""
    right = DATA.solution(begin_at(first), first, last or ve(0.0, 0.0))
    return float((end_of(peer, prediction, at, first) - right).abs().max())


def missed(name: str, path: Path, nodes: list[Node], prediction: str) -> float:
    """The same of ours."""
    x = begin_at(nodes[0])
    end = solve(DATA, table_of(name, path, nodes, prediction), prediction, x)
    return float((end - DATA.solution(x, nodes[0], nodes[-1])).abs().max())
