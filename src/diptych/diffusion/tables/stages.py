"""Solvers that ask several times a step. The step's beginning waits in `base`, the stages move x.

A step that begins at noise alone or ends at data is one of first order where the stages would
need what cannot be told there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from math import exp, expm1, isinf, sqrt

from diptych.diffusion.kernel import N, Table
from diptych.diffusion.paths import Node, Path
from diptych.diffusion.predictions import Pair, to_drift, to_x0
from diptych.diffusion.tables import Entry, first_order, own_scale, own_time, renoised, row, table
from diptych.foundation.errors import InvalidValue

# Where a stage asks, what it keeps of the step's beginning, weights of what was said, newest first.
Stage = tuple[Node, float, list[float]]
Plan = Callable[[Node, Node], list[Stage]]


def staged(
    nodes: Sequence[Node], prediction: str, convert: Callable[[Node], Pair], plan: Plan
) -> Table:
    steps = (_step(s, t, prediction, convert, plan) for s, t in itertools.pairwise(nodes))
    return table(itertools.chain.from_iterable(steps), prediction)


def _step(
    s: Node, t: Node, prediction: str, convert: Callable[[Node], Pair], plan: Plan
) -> list[Entry]:
    stages = [] if t.rho == 0 else plan(s, t)
    if not stages:
        return [(first_order(s, t, prediction), s, t)]
    entries: list[Entry] = []
    for k, (node, keep, weights) in enumerate(stages):
        pair, begins = convert(node), float(k == 0)
        if k == len(stages) - 1:
            numbers = row(pair, x=keep * begins, base=keep * (1 - begins), stored=weights)
        else:
            numbers = row(pair, x=begins, base=1 - begins, keep=keep, then=weights)
        entries.append((numbers, node, t if k == len(stages) - 1 else None))
    return entries


def butcher(
    path: Path, places: Sequence[float], stages: Sequence[Sequence[float]],
    weights: Sequence[float],
) -> Plan:  # fmt: skip
    """The explicit method of this tableau in the path's own drift: d(x / scale) / d tau, with
    tau = rho and scale = alpha for eps, tau = t and scale = 1 for a velocity."""

    def plan(s: Node, t: Node) -> list[Stage]:
        start, end = own_time(path, s), own_time(path, t)
        if isinf(end) or isinf(start):
            return []
        taus = [start + place * (end - start) for place in places]
        at = [path.at(tau) if path.drift == "velocity" else path.node(tau) for tau in taus[1:]]
        said, steps = [s, *at], [*zip(at, stages[1:], strict=True), (t, weights)]
        return [
            (node, own_scale(path, after) / own_scale(path, s),
             [own_scale(path, after) * (end - start) * w for w in reversed(used)])
            for node, (after, used) in zip(said, steps, strict=True)
        ]  # fmt: skip

    return plan


def heun(path: Path, nodes: Sequence[Node], prediction: str) -> Table:
    """The trapezoidal rule (Karras et al., 2022, algorithm 1)."""
    plan = butcher(path, (0, 1), ((), (1,)), (0.5, 0.5))
    return staged(nodes, prediction, partial(to_drift, prediction, path.drift), plan)


def rk4(path: Path, nodes: Sequence[Node], prediction: str) -> Table:
    """The classical method of fourth order: four evaluations a step."""
    plan = butcher(
        path, (0, 0.5, 0.5, 1), ((), (0.5,), (0, 0.5), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)
    )
    return staged(nodes, prediction, partial(to_drift, prediction, path.drift), plan)


def dpm_solver(path: Path, nodes: Sequence[Node], prediction: str, *, order: int) -> Table:
    """DPM-Solver-2 and -3, singlestep, on eps (Lu et al., 2022, algorithms 1 and 2): r = 1/2, and
    1/3 with 2/3. The second is the midpoint rule in rho with its middle in ln rho, the DPM2 of
    Karras et al.'s comparison."""

    def plan(s: Node, t: Node) -> list[Stage]:
        if isinf(s.level) or isinf(t.level):
            return []
        h = t.level - s.level
        if order == 2:
            middle = path.node(s.rho * exp(-h / 2))
            return [_on_eps(s, s, middle, h / 2, []), _on_eps(middle, s, t, h, [1.0])]
        one, two = (path.node(s.rho * exp(-h * r)) for r in (1 / 3, 2 / 3))
        return [_on_eps(s, s, one, h / 3, []),
                _on_eps(one, s, two, h * 2 / 3, [2 * _bend(h * 2 / 3)]),
                _on_eps(two, s, t, h, [1.5 * _bend(h), 0.0])]  # fmt: skip

    return staged(nodes, prediction, lambda n: to_drift(prediction, "eps", n), plan)


def _on_eps(asked: Node, s: Node, t: Node, h: float, bends: list[float]) -> Stage:
    """x = (alpha_t / alpha_s) x_s - sigma_t (e^h - 1) (eps_s + sum bend_j (eps_j - eps_s))."""
    whole = -t.sigma * expm1(h)
    return asked, t.alpha / s.alpha, [*(whole * b for b in bends), whole * (1 - sum(bends))]


def _bend(h: float) -> float:
    """((e^h - 1) / h - 1) / (e^h - 1)"""
    return 1 / h - 1 / expm1(h)


def dpmpp_2s(path: Path, nodes: Sequence[Node], prediction: str) -> Table:
    """DPM-Solver++ 2S on x0 (Lu et al., 2022b, algorithm 1), r = 1/2."""

    def plan(s: Node, t: Node) -> list[Stage]:
        if isinf(s.level) or isinf(t.level):
            return []
        h = t.level - s.level
        middle = path.node(s.rho * exp(-h / 2))
        return [(s, middle.sigma / s.sigma, [-middle.alpha * expm1(-h / 2)]),
                (middle, t.sigma / s.sigma, [-t.alpha * expm1(-h)])]  # fmt: skip

    return staged(nodes, prediction, partial(to_x0, prediction), plan)


def edm_stochastic(
    path: Path, nodes: Sequence[Node], prediction: str, *, churn: float = 40.0,
    low: float = 0.05, high: float = 50.0, inflate: float = 1.003,
) -> Table:  # fmt: skip
    """Heun with noise put back before each step but the first, whose noise is fresh (Karras et
    al., 2022, algorithm 2): rho grows by min(`churn` / steps, sqrt(2) - 1) between `low` and
    `high`, with noise `inflate` times as wide."""
    if churn < 0 or not 0 <= low <= high or inflate <= 0:
        raise InvalidValue("Churn runs from 0, low to high, and inflate lies above 0.")
    plan = butcher(path, (0, 1), ((), (1,)), (0.5, 0.5))
    gamma, entries, s = min(churn / (len(nodes) - 1), sqrt(2) - 1), [], nodes[0]
    for t in nodes[1:]:
        entries += _step(s, t, prediction, partial(to_drift, prediction, path.drift), plan)
        s = t
        if low <= t.rho <= high and t is not nodes[-1]:
            s = path.node(min(t.rho * (1 + gamma), path.start))
            numbers, asked, _ = entries[-1]
            sent = renoised(numbers, t, s)
            sent[N] *= inflate
            entries[-1] = sent, asked, s
    return table(entries, prediction)
