"""Solvers that use again what was said at earlier nodes.

What is stored is taken as a polynomial through the last nodes and integrated: over e^lambda x0
(exponential Adams, DPM-Solver++), over the path's own drift (LMS, iPNDM, PNDM), or over the drift
as a polynomial in ln rho (DEIS). From order 3 on the first step, which knows one node alone, is
corrected once its end has been asked, without another evaluation: else its error, of second
order, would remain.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp, expm1, isinf, log, sqrt

import numpy as np

from diptych.diffusion.kernel import C, E, Table
from diptych.diffusion.paths import Node, Path
from diptych.diffusion.predictions import Pair, to_drift, to_x0
from diptych.diffusion.tables import Entry, first_order, own_scale, own_time, row, table

# Adams-Bashforth on an even grid (Hairer, Norsett and Wanner, 1993, III.1).
_EVEN = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12),
         (55 / 24, -59 / 24, 37 / 24, -9 / 24))  # fmt: skip

Weigh = Callable[[Sequence[Node], Node, Node], list[float]]


@dataclass(frozen=True)
class Rule:
    """`convert`: what is stored. From s to t, x_t = `keep` x_s + sum `weigh`_j stored_j, with the
    nodes of what is stored, newest first, + `noise` z. `anywhere`: at noise alone too; else the
    step from there is one of first order, by way of x0."""

    convert: Callable[[Node], Pair]
    keep: Callable[[Node, Node], float]
    weigh: Weigh
    noise: Callable[[Node, Node], float] = lambda s, t: 0.0
    corrects: bool = True
    anywhere: bool = False


def multistep(nodes: Sequence[Node], prediction: str, rule: Rule, order: int) -> Table:
    first = int(isinf(nodes[0].rho) and not rule.anywhere)
    corrects = order > 2 and rule.corrects and len(nodes) > first + 2
    a, b = nodes[:2]
    entries: list[Entry] = [(first_order(a, b, prediction), a, b)] * first
    for i, (s, t) in enumerate(itertools.pairwise(nodes[first:])):
        past = nodes[first + max(0, i - order + 1) : first + i + 1][::-1]
        pair, keep, weights = rule.convert(s), rule.keep(s, t), rule.weigh(past, s, t)
        if i == 0 and corrects:
            numbers = row(pair, x=1.0, keep=keep, then=weights)
        elif i == 1 and corrects:
            begin = nodes[first]
            kept, better = rule.keep(begin, s), rule.weigh([s, begin], begin, s)
            numbers = row(pair, base=kept, stored=better, keep=keep, then=weights)
        else:
            numbers = row(pair, x=keep, stored=weights, noise=rule.noise(s, t))
        entries.append((numbers, s, t))
    return table(entries, prediction)


def exponential_adams(
    path: Path, nodes: Sequence[Node], prediction: str, *, order: int, noisy: bool = False,
    published: bool = False,
) -> Table:  # fmt: skip
    """Exponential Adams-Bashforth on x0, of the ODE or (`noisy`) the reverse SDE.

    `published`: DPM-Solver++ 2M and 3M as they are known (Lu et al., 2022b), which halve the last
    integral; the third then is of order 2.
    """
    kappa = 2.0 if noisy else 1.0

    def keep(s: Node, t: Node) -> float:
        return t.sigma / s.sigma * (exp(s.level - t.level) if noisy and t.rho else 1.0)

    def weigh(past: Sequence[Node], s: Node, t: Node) -> list[float]:
        if t.rho == 0:
            return [t.alpha]
        h = t.level - s.level
        ratios = [(node.level - s.level) / h for node in past]
        integrals = _integrals(kappa * h, len(ratios))
        if published and len(ratios) > 1:
            integrals[-1] = integrals[0] / 2 if len(ratios) == 2 else integrals[-1] / 2
        return [float(t.alpha * weight) for weight in _lagrange(ratios) @ integrals]

    def noise(s: Node, t: Node) -> float:
        return t.sigma * sqrt(-expm1(2 * (s.level - t.level))) if noisy and t.rho else 0.0

    exact = not (noisy or published)
    rule = Rule(partial(to_x0, prediction), keep, weigh, noise, exact)
    return multistep(nodes, prediction, rule, order)


def lms(path: Path, nodes: Sequence[Node], prediction: str, *, order: int) -> Table:
    """Linear multistep in the path's own time, its polynomials integrated exactly."""

    def weigh(past: Sequence[Node], s: Node, t: Node) -> list[float]:
        length = own_time(path, t) - own_time(path, s)
        ratios = [(own_time(path, node) - own_time(path, s)) / length for node in past]
        integrals = np.array([length / (k + 1) for k in range(len(past))])
        return [float(own_scale(path, t) * weight) for weight in _lagrange(ratios) @ integrals]

    return multistep(nodes, prediction, _drift(path, prediction, weigh), order)


def ipndm(path: Path, nodes: Sequence[Node], prediction: str, *, order: int = 4) -> Table:
    """The weights of an even grid whatever the grid is (Zhang and Chen, 2023, iPNDM)."""

    def weigh(past: Sequence[Node], s: Node, t: Node) -> list[float]:
        length = own_scale(path, t) * (own_time(path, t) - own_time(path, s))
        return [length * weight for weight in _EVEN[len(past) - 1]]

    rule = _drift(path, prediction, weigh, corrects=False)
    return multistep(nodes, prediction, rule, order)


def deis(path: Path, nodes: Sequence[Node], prediction: str, *, order: int) -> Table:
    """Polynomials in ln rho of eps (Zhang and Chen, 2023, tAB-DEIS)."""
    points, shares = np.polynomial.legendre.leggauss(40)

    def weigh(past: Sequence[Node], s: Node, t: Node) -> list[float]:
        if t.rho == 0:
            return [-t.alpha * s.rho]
        low, high = log(s.rho), log(t.rho)
        at = (high + low) / 2 + (high - low) / 2 * points
        ratios = [(log(node.rho) - low) / (high - low) for node in past]
        powers = np.vander((at - low) / (high - low), len(past), increasing=True).T
        measure = shares * (high - low) / 2 * np.exp(at)
        return [float(t.alpha * weight) for weight in _lagrange(ratios) @ (powers @ measure)]

    rule = Rule(partial(to_drift, prediction, "eps"), lambda s, t: t.alpha / s.alpha, weigh)
    return multistep(nodes, prediction, rule, order)


def pndm(path: Path, nodes: Sequence[Node], prediction: str) -> Table:
    """Pseudo linear multistep (Liu et al., 2022, eq. 12), begun by a trapezoidal step instead of
    Runge-Kutta, as SD 1.x uses it: one evaluation more than steps."""
    rule = _drift(path, prediction, lambda *_: [])
    if isinf(nodes[0].rho) and not rule.anywhere:
        head = [(first_order(nodes[0], nodes[1], prediction), nodes[0], nodes[1])]
        return table(head + _pndm(path, nodes[1:], rule), prediction)
    return table(_pndm(path, nodes, rule), prediction)


def _pndm(path: Path, nodes: Sequence[Node], rule: Rule) -> list[Entry]:
    if len(nodes) < 2:
        return []
    lengths = [own_scale(path, t) * (own_time(path, t) - own_time(path, s))
               for s, t in itertools.pairwise(nodes)]  # fmt: skip
    keeps = list(itertools.starmap(rule.keep, itertools.pairwise(nodes)))
    first, second = nodes[:2]
    begin, pair = lengths[0], rule.convert(first)
    if len(nodes) == 2:
        return [(row(pair, x=keeps[0], stored=[begin]), first, second)]
    trial = row(pair, x=1.0, keep=keeps[0], then=[begin])
    again = row(rule.convert(second), base=keeps[0], stored=[begin / 2, begin / 2])
    entries: list[Entry] = [(trial, first, None), (again, second, second)]
    for i in range(1, len(nodes) - 1):
        weights = [lengths[i] * weight for weight in _EVEN[min(i, 3)]]
        if i <= 2:  # what the trial said lies between the second node's word and the first's
            weights.insert(i, 0.0)
        numbers = row(rule.convert(nodes[i]), x=keeps[i], stored=weights[:4])
        if i == 2 and len(nodes) > 4:
            # The first node's word is about to be forgotten: its part in the next step goes
            # into `base` now, and the network does not see it.
            early = lengths[3] * _EVEN[3][3] / keeps[3]
            numbers[E[3]], numbers[C[3]] = -early, numbers[C[3]] + early
        if i == 3:
            numbers = row(rule.convert(nodes[i]), base=keeps[i], stored=weights[:3])
        entries.append((numbers, nodes[i], nodes[i + 1]))
    return entries


def _drift(path: Path, prediction: str, weigh: Weigh, corrects: bool = True) -> Rule:
    def keep(s: Node, t: Node) -> float:
        return own_scale(path, t) / own_scale(path, s)

    convert, flow = partial(to_drift, prediction, path.drift), path.drift == "velocity"
    return Rule(convert, keep, weigh, corrects=corrects, anywhere=flow)


def _lagrange(ratios: Sequence[float]) -> np.ndarray:
    """[k, k]: row j holds the coefficients, lowest first, of the polynomial that is 1 at the
    j-th place and 0 at the others."""
    return np.linalg.inv(np.vander(ratios, increasing=True)).T


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
