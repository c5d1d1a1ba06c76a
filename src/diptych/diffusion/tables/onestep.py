"""Solvers that need nothing but where they stand: DDIM and its relatives, with fresh noise or
without, and the samplers of consistency models."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import floor, isinf, sqrt

from diptych.diffusion.kernel import Table
from diptych.diffusion.paths import Node, Path
from diptych.diffusion.predictions import to_drift, to_x0
from diptych.diffusion.tables import Entry, first_order, own_time, renoised, row, table
from diptych.foundation.errors import InvalidValue


def ddim(path: Path, nodes: Sequence[Node], prediction: str, *, eta: float = 0.0) -> Table:
    """Song et al., 2021, eq. 12 and 16. `eta` = 0 is Euler in the path's own time and
    DPM-Solver++ 1; `eta` = 1 is DDPM with the smaller variance and Euler-ancestral."""
    if not 0 <= eta <= 1:
        raise InvalidValue(f"An eta of {eta} is not offered.", do="Choose 0 to 1.")
    entries: list[Entry] = []
    for s, t in itertools.pairwise(nodes):
        if eta == 0:
            numbers = _euler(path, s, t, prediction)
        else:
            ratio = 0.0 if isinf(s.rho) else t.rho / s.rho
            noise = eta * t.sigma * sqrt(max(0.0, 1 - ratio**2))
            keep = sqrt(max(0.0, t.sigma**2 - noise**2)) / s.sigma
            numbers = row(
                to_x0(prediction, s), x=keep, stored=[t.alpha - keep * s.alpha], noise=noise
            )
        entries.append((numbers, s, t))
    return table(entries, prediction)


def _euler(path: Path, s: Node, t: Node, prediction: str):
    """The same step in the path's own time costs two operations less, where the network says
    what is integrated."""
    if prediction == path.drift == "velocity":
        return row((0.0, 1.0), x=1.0, stored=[t.sigma - s.sigma])
    if prediction == path.drift == "eps" and not isinf(s.rho):
        keep = t.alpha / s.alpha
        return row((0.0, 1.0), x=keep, stored=[t.sigma - keep * s.sigma])
    return first_order(s, t, prediction)


def ddpm_large(path: Path, nodes: Sequence[Node], prediction: str) -> Table:
    """Ho et al., 2020, section 3.2, the larger variance: that of the step from t to s forwards.
    No noise on the step to data."""
    entries: list[Entry] = []
    for s, t in itertools.pairwise(nodes):
        ratio = 0.0 if isinf(s.rho) else t.rho / s.rho
        keep = t.sigma * ratio / s.sigma
        spread = s.sigma**2 - (s.alpha / t.alpha * t.sigma) ** 2
        noise = 0.0 if t.rho == 0 else sqrt(max(0.0, spread))
        numbers = row(to_x0(prediction, s), x=keep, stored=[t.alpha - keep * s.alpha], noise=noise)
        entries.append((numbers, s, t))
    return table(entries, prediction)


def consistency(path: Path, nodes: Sequence[Node], prediction: str, *, kept: float = 0.0) -> Table:
    """Multistep consistency sampling (Song et al., 2023, algorithm 1): the picture at once, then
    noise up to the next level. `kept`: the ratio of noise that their networks leave on it."""
    left = path.node(kept).rho  # refuses what is no ratio of the path
    entries: list[Entry] = []
    for s, t in itertools.pairwise(nodes):
        noise = sqrt(max(0.0, t.sigma**2 - (t.alpha * left) ** 2))
        entries.append((row(to_x0(prediction, s), stored=[t.alpha], noise=noise), s, t))
    return table(entries, prediction)


def lcm(
    path: Path, nodes: Sequence[Node], prediction: str, *, stretch: float = 10.0, data: float = 0.5
) -> Table:
    """Latent consistency (Luo et al., 2023, section 4.1): `consistency` behind the boundary
    c_skip x + c_out x0, which looks at `stretch` times the training step."""
    if not path.steps:
        what = "LCM's boundary looks at training steps, and this path has none."
        raise InvalidValue(what, do="Choose 'consistency'.")
    entries: list[Entry] = []
    for s, t in itertools.pairwise(nodes):
        tau = stretch * s.time
        skip, out = data**2 / (tau**2 + data**2), tau / sqrt(tau**2 + data**2)
        p, q = to_x0(prediction, s)
        pair = (skip + out * p, out * q)
        entries.append((row(pair, stored=[t.alpha], noise=t.sigma), s, t))
    return table(entries, prediction)


def tcd(path: Path, nodes: Sequence[Node], prediction: str, *, gamma: float = 0.3) -> Table:
    """Trajectory consistency (Zheng et al., 2024, algorithm 4): down to the share 1 - `gamma` of
    the next time (a training step, t of a flow, else rho), then up to it with fresh noise; the
    last step goes to its end at once."""
    if not 0 <= gamma <= 1:
        raise InvalidValue(f"A gamma of {gamma} is not offered.", do="Choose 0 to 1.")
    entries: list[Entry] = []
    for s, t in itertools.pairwise(nodes):
        low = t if t is nodes[-1] else _share_of(path, t, 1 - gamma)
        entries.append((renoised(first_order(s, low, prediction), low, t), s, t))
    return table(entries, prediction)


def _share_of(path: Path, node: Node, share: float) -> Node:
    if path.steps:
        return path.at(float(floor(share * node.time)))
    time = share * own_time(path, node)
    return path.at(time) if path.drift == "velocity" else path.node(time)


def langevin(
    path: Path, nodes: Sequence[Node], prediction: str, *, repeats: int = 5, rate: float = 0.2
) -> Table:
    """Annealed Langevin dynamics (Song and Ermon, 2019, algorithm 1) in y = x / alpha: at each
    ratio `repeats` steps y += (a / 2) score + sqrt(a) z with a = `rate` rho^2, each of the last
    of them taken on to the next node. A list that ends at data ends with the denoised picture."""
    if repeats < 1 or not 0 < rate <= 2:
        what = f"{repeats} repeats at a rate of {rate} are not offered."
        raise InvalidValue(what, do="Choose one or more, and a rate above 0 and up to 2.")
    entries: list[Entry] = []
    for s, t in itertools.pairwise(nodes):
        if t.rho == 0 or isinf(s.rho):
            entries.append((first_order(s, t, prediction), s, t))
            continue
        pair = to_drift(prediction, "eps", s)
        for i in range(repeats):
            end = t if i == repeats - 1 else s
            keep = end.alpha / s.alpha
            noise = end.alpha * s.rho * sqrt(rate)
            moved = [-rate / 2 * s.rho * end.alpha]
            entries.append((row(pair, x=keep, stored=moved, noise=noise), s, end))
    return table(entries, prediction)
