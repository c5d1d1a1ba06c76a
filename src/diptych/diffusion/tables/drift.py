"""Solvers in the path's own time: they store the drift m = dy/dtau, where y = x / alpha and
tau = rho for noise predictions, y = x and tau = t for a flow."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from math import isinf, log

import numpy as np

from diptych.diffusion.kernel import WIDTH, A, C, D, E, P, Q, Table, X
from diptych.diffusion.paths import Node, Path
from diptych.diffusion.predictions import to_drift, to_x0
from diptych.foundation.errors import InvalidValue

# Adams-Bashforth on an even grid (Hairer, Norsett and Wanner, 1993, III.1).
_EVEN = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12),
         (55 / 24, -59 / 24, 37 / 24, -9 / 24))  # fmt: skip


def runge_kutta(
    path: Path,
    nodes: Sequence[Node],
    prediction: str,
    *,
    places: Sequence[float],
    stages: Sequence[Sequence[float]],
    weights: Sequence[float],
) -> Table:
    """An explicit method with its Butcher tableau; its stages are rows of the table.

    A step that ends at data is one of first order: there the drift cannot be told.
    """
    rows: list[np.ndarray] = []
    times: list[float] = []
    for s, t in itertools.pairwise(nodes):
        if t.rho == 0:
            rows.append(_last(path, s, t, prediction))
            times.append(s.time)
            continue
        start, length = _tau(path, s), _tau(path, t) - _tau(path, s)
        at = [s, *(_node(path, start + place * length) for place in places[1:])]
        for k, node in enumerate(at):
            row = np.zeros(WIDTH)
            row[P], row[Q] = to_drift(prediction, path.drift, node)
            row[X if k == 0 else A] = 1.0
            final = k == len(at) - 1
            after, used = (t, weights) if final else (at[k + 1], stages[k + 1])
            keep = _scale(path, after) / _scale(path, s)
            mixed = [_scale(path, after) * length * weight for weight in used]
            slots = list(reversed(mixed[: k + 1]))
            if final:
                row[A if k else X] = keep
                _fill(row, C, slots)
                row[D] = 1.0
            else:
                row[D] = keep
                _fill(row, E, slots)
            rows.append(row)
            times.append(node.time)
    return Table(np.stack(rows), np.array(times))


def heun(path: Path, nodes: Sequence[Node], prediction: str) -> Table:
    """The trapezoidal rule (Karras et al., 2022, algorithm 1)."""
    return runge_kutta(
        path, nodes, prediction, places=(0, 1), stages=((), (1,)), weights=(0.5, 0.5)
    )


def rk4(path: Path, nodes: Sequence[Node], prediction: str) -> Table:
    """The classical method of fourth order: four evaluations a step."""
    stages = ((), (0.5,), (0, 0.5), (0, 0, 1))
    weights = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
    return runge_kutta(
        path, nodes, prediction, places=(0, 0.5, 0.5, 1), stages=stages, weights=weights
    )


def adams(
    path: Path, nodes: Sequence[Node], prediction: str, *, order: int, even: bool = False
) -> Table:
    """Linear multistep with the integrals of the polynomial through what was stored (LMS), or
    `even`: with the weights of an even grid whatever the grid is (iPNDM, Liu et al., 2022)."""
    weigh = _even_weights if even else _lagrange_weights
    return _multistep(path, nodes, prediction, order, weigh)


def deis(path: Path, nodes: Sequence[Node], prediction: str, *, order: int) -> Table:
    """Polynomials in ln tau (Zhang and Chen, 2023, tAB-DEIS)."""
    if isinf(nodes[0].rho):
        raise InvalidValue(
            "DEIS works in the logarithm of the noise ratio and cannot begin at noise alone.",
            do="Choose euler, heun, dpmpp_2m or unipc, or a path that ends before it.",
        )
    return _multistep(path, nodes, prediction, order, _log_weights)


def _multistep(
    path: Path,
    nodes: Sequence[Node],
    prediction: str,
    order: int,
    weigh: Callable[[Sequence[float], float, float], list[float]],
) -> Table:
    rows = np.zeros((len(nodes) - 1, WIDTH))
    taus = [_tau(path, node) for node in nodes]
    for i, (s, t) in enumerate(itertools.pairwise(nodes)):
        if t.rho == 0 and prediction != path.drift:
            rows[i] = _last(path, s, t, prediction)
            continue
        row = rows[i]
        row[P], row[Q] = to_drift(prediction, path.drift, s)
        past = taus[max(0, i - order + 1) : i + 1][::-1]
        row[X], row[D] = _scale(path, t) / _scale(path, s), 1.0
        _fill(row, C, [_scale(path, t) * w for w in weigh(past, taus[i], taus[i + 1])])
    return Table(rows, np.array([node.time for node in nodes[:-1]]))


def _even_weights(past: Sequence[float], start: float, end: float) -> list[float]:
    return [(end - start) * weight for weight in _EVEN[len(past) - 1]]


def _lagrange_weights(past: Sequence[float], start: float, end: float) -> list[float]:
    """Integrals of the Lagrange polynomials over start..end, exactly."""
    length = end - start
    ratios = [(tau - start) / length for tau in past]
    powers = np.vander(ratios, increasing=True)
    integrals = np.array([length / (k + 1) for k in range(len(past))])
    return list(map(float, np.linalg.inv(powers).T @ integrals))


def _log_weights(past: Sequence[float], start: float, end: float) -> list[float]:
    if end == 0:
        return [end - start]
    points, shares = np.polynomial.legendre.leggauss(40)
    low, high = log(start), log(end)
    at = (high + low) / 2 + (high - low) / 2 * points
    ratios = [(log(tau) - low) / (high - low) for tau in past]
    inverse = np.linalg.inv(np.vander(ratios, increasing=True)).T
    values = inverse @ np.vander((at - low) / (high - low), len(past), increasing=True).T
    measure = shares * (high - low) / 2 * np.exp(at)
    return [float(value @ measure) for value in values]


def _last(path: Path, s: Node, t: Node, prediction: str) -> np.ndarray:
    """A step of first order by way of the clean picture, right even where t is data alone."""
    row = np.zeros(WIDTH)
    row[P], row[Q] = to_x0(prediction, s)
    row[X], row[D] = t.sigma / s.sigma, 1.0
    row[C[0]] = t.alpha - row[X] * s.alpha
    return row


def _tau(path: Path, node: Node) -> float:
    if path.drift == "velocity":
        return node.sigma
    if isinf(node.rho):
        raise InvalidValue(
            "This solver works in the noise ratio, which is infinite at noise alone.",
            do="Choose euler, dpmpp_2m or unipc.",
        )
    return node.rho


def _node(path: Path, tau: float) -> Node:
    if path.drift == "velocity":
        return path.node(tau / (1 - tau))
    return path.node(tau)


def _scale(path: Path, node: Node) -> float:
    return 1.0 if path.drift == "velocity" else node.alpha


def _fill(row: np.ndarray, columns: Sequence[int], values: Sequence[float]) -> None:
    for column, value in zip(columns, values, strict=False):
        row[column] = value
