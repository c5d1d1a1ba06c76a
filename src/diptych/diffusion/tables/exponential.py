"""Solvers that store the clean picture and integrate exactly in lambda, the log signal-to-noise
ratio: DDIM, DPM-Solver++, exponential Adams-Bashforth, UniPC.

With h = lambda_t - lambda_s from node s to node t, x_t is (sigma_t / sigma_s) x_s and an integral
over e^lambda x0(lambda), where x0 is taken as a polynomial through what was stored.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import exp, expm1, factorial, inf, isinf, sqrt

import numpy as np

from diptych.diffusion.kernel import WIDTH, A, C, D, E, N, P, Q, Table, X
from diptych.diffusion.paths import Node
from diptych.diffusion.predictions import to_x0


def exponential_adams(
    nodes: Sequence[Node],
    prediction: str,
    *,
    order: int,
    noisy: bool = False,
    published: bool = False,
) -> Table:
    """Exponential Adams-Bashforth on x0, of the ODE or (`noisy`) the reverse SDE.

    Order 1 of the ODE is DDIM, DPM-Solver++ 1 and Euler. Above 2 the first step is corrected
    once its end is known, without another evaluation, else its error would stay of order 2.
    `published`: DPM-Solver++ 2M and 3M as they are known (Lu et al., 2022), which halve the last
    integral; the third then is of order 2.
    """
    rows, kappa = _empty(nodes), 2.0 if noisy else 1.0
    for i, (s, t) in enumerate(itertools.pairwise(nodes)):
        weights = _adams(nodes[max(0, i - order + 1) : i + 1], s, t, kappa, published)
        noise = t.sigma * sqrt(-expm1(-2 * _step(s, t))) if noisy else 0.0
        rows[i, P], rows[i, Q] = to_x0(prediction, s)
        keep = _keep(s, t) * (exp(-_step(s, t)) if noisy else 1.0)
        _predict(rows[i], keep, weights, noise)
        if order > 2 and not (noisy or published) and i == 1 and _finite(nodes[0]):
            _correct_first(rows, nodes, keep, weights)
    return _table(rows, nodes)


def ddim(nodes: Sequence[Node], prediction: str, *, eta: float = 0.0) -> Table:
    """Song et al., 2021, eq. 12 and 16; `eta` = 1 is DDPM with the smaller variance and
    Euler-ancestral."""
    rows = _empty(nodes)
    for i, (s, t) in enumerate(itertools.pairwise(nodes)):
        ratio = 0.0 if isinf(s.rho) else t.rho / s.rho
        noise = eta * t.sigma * sqrt(max(0.0, 1 - ratio**2))
        keep = sqrt(max(0.0, t.sigma**2 - noise**2)) / s.sigma
        rows[i, P], rows[i, Q] = to_x0(prediction, s)
        _predict(rows[i], keep, [t.alpha - keep * s.alpha], noise)
    return _table(rows, nodes)


def unipc(nodes: Sequence[Node], prediction: str, *, order: int) -> Table:
    """Predictor and corrector of Zhao et al., 2023, with B = e^h - 1 (bh2). The corrector takes
    the evaluation the next prediction needs anyway."""
    rows = _empty(nodes)
    for i, (s, t) in enumerate(itertools.pairwise(nodes)):
        rows[i, P], rows[i, Q] = to_x0(prediction, s)
        if i == 0:
            rows[i, X] = 1.0
        else:
            before = nodes[i - 1]
            known = min(order, i) if _finite(before) else 1
            past = list(nodes[max(0, i - known) : i])[::-1]
            keep, weights = _uni(past, s, corrected=True)
            rows[i, A] = keep
            for column, weight in zip(C, weights, strict=False):
                rows[i, column] = weight
        known = min(order, i + 1)
        past = list(nodes[max(0, i - known + 1) : i + 1])[::-1]
        keep, weights = _uni(past, t, corrected=False)
        rows[i, D] = keep
        for column, weight in zip(E, weights, strict=False):
            rows[i, column] = weight
    return _table(rows, nodes)


def _uni(past: Sequence[Node], t: Node, *, corrected: bool) -> tuple[float, list[float]]:
    """(what is kept of x_s, weights) of UniP, or of UniC with the output at t itself first.

    `past` holds s and the nodes before it, newest first.
    """
    s = past[0]
    if t.rho == 0 or not _finite(s):
        first = t.alpha - _keep(s, t) * s.alpha
        return _keep(s, t), [0.0, first] if corrected else [first]
    h = _step(s, t)
    older = [node for node in past[1:] if _finite(node)]
    ratios = [(node.level - s.level) / h for node in older] + [1.0] * corrected
    base = expm1(-h)
    share = t.alpha * base
    keep = t.sigma / s.sigma
    if not ratios:
        return keep, [-share]
    if len(ratios) == 1:
        solved = np.array([0.5])
    else:
        matrix = np.array([[r**k for r in ratios] for k in range(len(ratios))])
        wanted = [factorial(n) * -h * _phi(n + 1, -h) / base for n in range(1, len(ratios) + 1)]
        solved = np.linalg.solve(matrix, np.array(wanted))
    per = [float(weight) / ratio for weight, ratio in zip(solved, ratios, strict=True)]
    here = -share + share * sum(per)
    weights = [here, *(-share * p for p in per[: len(older)])]
    return keep, [-share * per[-1], *weights] if corrected else weights


def _adams(past: Sequence[Node], s: Node, t: Node, kappa: float, published: bool) -> list[float]:
    """Weights of the stored x0, newest first, on the way from s to t."""
    if t.rho == 0 or not _finite(s):
        return [t.alpha - (_keep(s, t) if kappa == 1 else 0.0) * s.alpha]
    h = _step(s, t)
    ratios = [(node.level - s.level) / h for node in reversed(past) if _finite(node)]
    integrals = _integrals(kappa * h, len(ratios))
    if published and len(ratios) > 1:
        integrals[-1] = integrals[0] / 2 if len(ratios) == 2 else integrals[-1] / 2
    powers = np.vander(ratios, increasing=True)  # its inverse holds the Lagrange polynomials
    weights = np.linalg.inv(powers).T @ integrals
    return [float(t.alpha * weight) for weight in weights]


def _integrals(z: float, count: int) -> np.ndarray:
    """J_k = z times the integral of e^(z (u - 1)) u^k over 0..1."""
    values = []
    for k in range(count):
        if z < 1:
            series = sum((-z) ** i / np.prod(np.arange(k + 1.0, k + i + 2)) for i in range(24))
            values.append(z * series)
        else:
            values.append(1 - exp(-z) if k == 0 else 1 - k / z * values[-1])
    return np.array(values)


def _correct_first(
    rows: np.ndarray, nodes: Sequence[Node], keep: float, weights: Sequence[float]
) -> None:
    """At the second evaluation replace x_1 by its UniC correction before going on from it."""
    kept, correction = _uni([nodes[0]], nodes[1], corrected=True)
    row = rows[1]
    row[X], row[N], row[A] = 0.0, 0.0, kept
    for column, weight in zip(C, [*correction, 0.0, 0.0], strict=False):
        row[column] = weight
    row[D] = keep
    for column, weight in zip(E, weights, strict=False):
        row[column] = weight
    # The first step must leave x_0 in `base` for it.
    first = rows[0]
    first[D], first[E[0]] = first[X], first[C[0]]
    first[X], first[C[0]] = 1.0, 0.0


def _phi(k: int, z: float) -> float:
    """phi_1 = (e^z - 1) / z, phi_{k+1} = (phi_k - 1 / k!) / z."""
    if abs(z) < 1.5:
        return sum(z**i / factorial(i + k) for i in range(30))
    value = expm1(z) / z
    for j in range(1, k):
        value = (value - 1 / factorial(j)) / z
    return value


def _predict(row: np.ndarray, keep: float, weights: Sequence[float], noise: float) -> None:
    row[X], row[N], row[D] = keep, noise, 1.0
    for column, weight in zip(C, weights, strict=False):
        row[column] = weight


def _empty(nodes: Sequence[Node]) -> np.ndarray:
    return np.zeros((len(nodes) - 1, WIDTH))


def _table(rows: np.ndarray, nodes: Sequence[Node]) -> Table:
    return Table(rows, np.array([node.time for node in nodes[:-1]]))


def _finite(node: Node) -> bool:
    return not isinf(node.level)


def _keep(s: Node, t: Node) -> float:
    return t.sigma / s.sigma


def _step(s: Node, t: Node) -> float:
    """h; infinite where a node is noise or data alone."""
    return inf if not _finite(s) or not _finite(t) else t.level - s.level
