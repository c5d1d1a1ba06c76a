"""UniPC (Zhao et al., 2023): a predictor, and a corrector that takes the evaluation which the
next prediction needs anyway."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import expm1, factorial, isinf

import numpy as np

from diptych.diffusion.kernel import Table
from diptych.diffusion.paths import Node, Path
from diptych.diffusion.predictions import to_x0
from diptych.diffusion.tables import Entry, row, table


def unipc(
    path: Path, nodes: Sequence[Node], prediction: str, *, order: int, linear: bool = False
) -> Table:
    """On x0, with B = e^h - 1 (bh2) or, `linear`, B = h (bh1). The corrector adds one order.

    `base` holds the corrected x divided by sigma: so it is only added to, which costs a pass less.
    """
    entries: list[Entry] = []
    for i, (s, t) in enumerate(itertools.pairwise(nodes)):
        pair, then = to_x0(prediction, s), _uni(_past(nodes, i, order), t, linear, corrects=False)
        if i == 0:
            numbers = row(pair, x=1 / s.sigma, keep=t.sigma, then=then)
        else:
            stored = _uni(_past(nodes, i - 1, order), s, linear, corrects=True)
            stored = [weight / s.sigma for weight in stored]
            numbers = row(pair, base=1.0, stored=stored, keep=t.sigma, then=then)
        entries.append((numbers, s, t))
    return table(entries, prediction)


def _past(nodes: Sequence[Node], i: int, order: int) -> list[Node]:
    """Node i and those before it that are known and of use, newest first."""
    past = list(nodes[max(0, i - order + 1) : i + 1])[::-1]
    return [past[0], *(node for node in past[1:] if not isinf(node.rho))]


def _uni(past: Sequence[Node], t: Node, linear: bool, *, corrects: bool) -> list[float]:
    """The weights of UniP (eq. 3), or of UniC (eq. 9) with the output at t itself first, beside
    (sigma_t / sigma_s) x_s. `past` holds s and the nodes before it."""
    s = past[0]
    if t.rho == 0 or isinf(s.rho):
        first = t.alpha - t.sigma / s.sigma * s.alpha
        return [0.0, first] if corrects else [first]
    h = t.level - s.level
    whole, bend = -t.alpha * expm1(-h), t.alpha * (h if linear else -expm1(-h))
    ratios = [(node.level - s.level) / h for node in past[1:]] + [1.0] * corrects
    if not ratios:
        return [whole]
    if len(ratios) == 1:
        solved = np.array([0.5])
    else:
        matrix = np.array([[r**k for r in ratios] for k in range(len(ratios))])
        wanted = [factorial(n) * h * _phi(n + 1, -h) * t.alpha / bend
                  for n in range(1, len(ratios) + 1)]  # fmt: skip
        solved = np.linalg.solve(matrix, np.array(wanted))
    per = [float(bend * weight / ratio) for weight, ratio in zip(solved, ratios, strict=True)]
    here = [whole - sum(per), *per[: len(past) - 1]]
    return [per[-1], *here] if corrects else here


def _phi(k: int, z: float) -> float:
    """phi_1 = (e^z - 1) / z, phi_{k+1} = (phi_k - 1 / k!) / z."""
    if abs(z) < 1.5:
        return sum(z**i / factorial(i + k) for i in range(30))
    value = expm1(z) / z
    for j in range(1, k):
        value = (value - 1 / factorial(j)) / z
    return value
