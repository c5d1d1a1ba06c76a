"""A scheduler of diffusers and a table of ours, walked with one network, one start, one noise.

Theirs is walked in float32, as it is used; ours in float64, so that what differs is theirs to
round. Both are compared after every evaluation of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from math import inf, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych.diffusion.kernel import State, Table, begin, step
from diptych.diffusion.paths import (
    FlowPath,
    Node,
    Path,
    VariancePreserving,
    scaled_linear_betas,
    vp_of_betas,
)
from diptych.diffusion.predictions import Prediction
from diptych.diffusion.solvers import table_of

SHAPE = (2, 3, 4, 4)
SEED = 7
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
VP = vp_of_betas(scaled_linear_betas())
FLOW = FlowPath(time_scale=1000)
# Even in lambda.
EVEN = VariancePreserving(tuple(map(float, np.exp(np.linspace(-3, 2.5, 37)))))
PREDICTED = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}


def network(x: Tensor, time: float) -> Tensor:
    """Any smooth function that mixes what lies in a row and listens to the time; [B, ...]."""
    y = x.double()
    mixed = torch.tanh(0.9 * y + 0.5 * y.roll(1, -1) - 0.2) + 0.4 * torch.sin(y + time)
    return mixed.to(x.dtype)


@dataclass(frozen=True)
class Case:
    """`peer()`: their scheduler with its timesteps set; `nodes(peer)`: our list of the same
    places; `said`: options of their steps. `exploding`: they keep x / alpha. The network hears
    `unit` times the time, so that a step of one in training time is felt."""

    peer: Callable[[], Any]
    solver: str
    nodes: Callable[[Any], list[Node]]
    prediction: str | Prediction = "eps"
    path: Path = VP
    options: dict[str, Any] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)
    noisy: bool = False
    exploding: bool = False
    unit: float = 0.01

    def table(self, peer: Any) -> Table:
        nodes = self.nodes(peer)
        return table_of(self.solver, self.path, nodes, self.prediction, **self.options)


def called(case: Case) -> str:
    """Scheduler, solver and what is particular, for the list of tests."""
    make = case.peer
    kind, words = (make.args[0].__name__, make.keywords) if isinstance(make, partial) else ("", {})
    shown = {k: v for k, v in {**words, **case.said}.items() if k not in ("betas", "clip_sample")}
    return " ".join([kind, case.solver, *(f"{k}={v}" for k, v in shown.items())])


def start(node: Node, exploding: bool = False) -> Tensor:
    """Where both begin: noise of the node's width in their scale, float32."""
    drawn = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    return drawn * (node.rho if exploding else node.sigma or 1.0)


def theirs(peer: Any, x: Tensor, case: Case) -> list[Tensor]:
    """Their sample after each evaluation."""
    ways: list[Tensor] = []
    said = dict(case.said)
    if case.noisy:
        said["generator"] = torch.Generator().manual_seed(SEED)
    for t in peer.timesteps:
        seen = peer.scale_model_input(x, t) if hasattr(peer, "scale_model_input") else x
        out = network(seen, float(t) * case.unit)
        x = peer.step(out, t, x, return_dict=False, **said)[0]
        ways.append(x)
    return ways


def ours(table: Table, x: Tensor, case: Case) -> list[Tensor]:
    """Our sample after each evaluation, in their scale; the noise is what their generator drew."""
    draws, ways = torch.Generator().manual_seed(SEED), list[Tensor]()
    state = begin(x.double() * (table.nodes[0].alpha if case.exploding else 1.0))
    for i, by in enumerate(table.coefficients(state.x)):
        out = network(state.x * table.scale[i], table.nodes[i].time * case.unit)
        noise = torch.randn(SHAPE, generator=draws).double() if by.noisy else None
        state = step(state, out, by, noise)
        ways.append(state.x / (place(table, i).alpha if case.exploding else 1.0))
    return ways


def place(table: Table, i: int) -> Node:
    """Where x stands after evaluation i: at the next one's node, in the end at the last."""
    node = table.nodes[i + 1] if i + 1 < len(table) else table.after[-1]
    assert node is not None
    return node


def led(table: Table, x: Tensor, case: Case, way: Sequence[Tensor]) -> list[Tensor]:
    """Ours, set back onto their way before each evaluation, with what was said there: for the
    steps of solvers that begin otherwise. Without noise."""
    stored: tuple[Tensor, ...] = ()
    ways: list[Tensor] = []
    base = x
    before = [x, *way[:-1]]
    for i, by in enumerate(table.coefficients(x.double())):
        at = before[i].double() * (table.nodes[i].alpha if case.exploding else 1.0)
        if i == 0 or table.after[i - 1] is not None:
            base = at
        state = step(State(base, at, stored), network(at, table.nodes[i].time * case.unit), by)
        stored = state.stored
        ways.append(state.x / (place(table, i).alpha if case.exploding else 1.0))
    return ways


def same(a: Sequence[Tensor], b: Sequence[Tensor], within: float = 1e-5) -> None:
    """Two ways are one to `within` of the sample's scale at every evaluation."""
    assert len(a) == len(b)
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        missed = float((x.double() - y.double()).abs().max() / y.double().abs().max())
        assert missed <= within, f"evaluation {i}: {missed:.1e}"
    assert float((b[0] - b[-1]).abs().max()) > 0.1  # nothing was compared that stands still


def check(case: Case, within: float = 1e-5) -> None:
    peer = case.peer()
    table = case.table(peer)
    x = start(table.nodes[0], case.exploding)
    same(ours(table, x, case), theirs(peer, x, case), within)


def made(kind: type, steps: int, *, betas: dict[str, Any] = SD, **options: Any) -> Any:
    """A scheduler of theirs, ready for so many steps."""
    peer = kind(**betas, **options)
    peer.set_timesteps(steps)
    return peer


def betas_of(path: VariancePreserving) -> dict[str, Any]:
    """What makes a path theirs."""
    kept = [1.0, *(1 / (1 + rho**2) for rho in path.rhos)]
    return {
        "num_train_timesteps": path.steps,
        "trained_betas": [1 - b / a for a, b in pairwise(kept)],
    }


def vp(rho: float, time: float) -> Node:
    alpha = 0.0 if rho == inf else 1 / sqrt(1 + rho * rho)
    return Node(rho, alpha, 1.0 if rho == inf else rho * alpha, time)


def of_times(path: Path = VP, end: Node | None = None) -> Callable[[Any], list[Node]]:
    """Our nodes at their whole training steps, then data."""
    last = path.node(0.0) if end is None else end
    return lambda peer: [*(path.at(float(t)) for t in peer.timesteps), last]


def of_sigmas(make: Callable[[float, float], Node] = vp, every: int = 1):
    """Nodes at their ratios, told the times that theirs are told; each `every`-th of them."""

    def nodes(peer: Any) -> list[Node]:
        times = peer.timesteps.double()[::every].unique_consecutive().tolist()
        rhos = peer.sigmas.double().unique_consecutive().tolist()
        assert len(rhos) == len(times) + 1
        return [*(make(r, t) for r, t in zip(rhos[:-1], times, strict=True)), make(rhos[-1], 0.0)]

    return nodes


def ve(rho: float, time: float) -> Node:
    return Node(rho, 1.0, rho, time)


def flow(sigma: float, time: float) -> Node:
    return replace(FLOW.at(sigma), time=time)
