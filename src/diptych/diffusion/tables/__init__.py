"""Coefficients of solvers, one kind a file: functions from a list of nodes to a `Table`.

`onestep`: what needs no memory. `stages`: several evaluations a step. `multistep`: what was said
before is used again. `unipc`: predictor and corrector. Here: how a row is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from diptych.diffusion.kernel import WIDTH, A, C, D, E, N, P, Q, Table, X
from diptych.diffusion.paths import Node, Path
from diptych.diffusion.predictions import Pair, Prediction, prediction_of, to_drift, to_x0

# A row, the node at which the network is asked, and the node where x stands then.
Entry = tuple[NDArray[np.float64], Node, Node | None]


def row(
    pair: Pair, *, x: float = 0.0, base: float = 0.0, stored: Sequence[float] = (),
    noise: float = 0.0, keep: float = 1.0, then: Sequence[float] = (),
) -> NDArray[np.float64]:  # fmt: skip
    """With m = p x + q out, (p, q) = `pair`, and what was stored, newest (m) first:
    base' = `base` base + `x` x + `stored` . H + `noise` z, then x' = `keep` base' + `then` . H."""
    numbers = np.zeros(WIDTH)
    numbers[[P, Q, A, X, N, D]] = *pair, base, x, noise, keep
    numbers[list(C[: len(stored)])] = stored
    numbers[list(E[: len(then)])] = then
    return numbers


def table(entries: Iterable[Entry], prediction: str | Prediction) -> Table:
    rows, nodes, after = zip(*entries, strict=True)
    scale = np.array([prediction_of(prediction).scale(node) for node in nodes])
    return Table(np.stack(rows), nodes, after, scale)


def first_order(s: Node, t: Node, prediction: str | Prediction) -> NDArray[np.float64]:
    """DDIM's step (Song et al., 2021, eq. 12), right where t is data and where s is noise alone;
    from data, where the clean picture says no direction, by way of eps."""
    if s.sigma == 0:
        keep = t.alpha / s.alpha
        return row(to_drift(prediction, "eps", s), x=keep, stored=[t.sigma - keep * s.sigma])
    keep = t.sigma / s.sigma
    return row(to_x0(prediction, s), x=keep, stored=[t.alpha - keep * s.alpha])


def renoised(numbers: NDArray[np.float64], t: Node, s: Node) -> NDArray[np.float64]:
    """The row that ends at t, sent on to the noisier s with fresh noise."""
    ratio, sent = s.alpha / t.alpha, numbers.copy()
    sent[[A, X, *C, N]] *= ratio
    sent[N] = np.hypot(sent[N], np.sqrt(max(0.0, s.sigma**2 - (ratio * t.sigma) ** 2)))
    return sent


def own_time(path: Path, node: Node) -> float:
    """What a solver in the path's own time integrates over: t of a flow, else rho."""
    return node.sigma if path.drift == "velocity" else node.rho


def own_scale(path: Path, node: Node) -> float:
    """What x is divided by there, so that its slope is the drift: 1 on a flow, else alpha."""
    return 1.0 if path.drift == "velocity" else node.alpha
