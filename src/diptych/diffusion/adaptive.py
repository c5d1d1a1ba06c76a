"""The probability flow with steps of its own choosing, and the likelihood along it.

The flow dy/drho = noise of y = x / alpha (Karras et al., 2022, eq. 4) is infinitely long. With
theta = arctan(rho) and z = x / sqrt(alpha^2 + sigma^2) = cos(theta) x0 + sin(theta) noise it is

    dz / dtheta = cos(theta) noise - sin(theta) x0      from 0 (data) to pi / 2 (noise alone)

for every path, finite at both ends. It is solved in float64 by Dormand and Prince's 5(4) with the
step control of DOPRI5 (Hairer, Norsett and Wanner, 1993, II.4, II.5). A row goes alone, by steps
of its own: it does not know its neighbours, and a batch takes as long as all its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import atan, hypot, inf, log, pi, tan

import torch
from torch import Tensor

from diptych.diffusion.noise import step_noise
from diptych.diffusion.paths import Node, Path
from diptych.diffusion.predictions import Prediction, to_drift, to_x0
from diptych.foundation.errors import InvalidValue
from diptych.foundation.progress import Progress, Report, silent

_STAGES = (  # (place, weights of the slopes before)
    (1 / 5, (1 / 5,)), (3 / 10, (3 / 40, 9 / 40)),
    (4 / 5, (44 / 45, -56 / 15, 32 / 9)),
    (8 / 9, (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729)),
    (1, (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656)),
    (1, (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)),
)  # fmt: skip
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
_PROBES = 2**16  # the first stream of Hutchinson's probes


@dataclass(frozen=True)
class Flow:
    """`ask(x [1, ...], node) -> out [1, ...]`, a `prediction` on a path, x not scaled. A step may
    err by `rtol` |z| + `atol`, a row may ask `most` times; `report` hears of each row's steps."""

    ask: Callable[[Tensor, Node], Tensor]
    prediction: str | Prediction
    path: Path
    rtol: float = 1e-5
    atol: float = 1e-5
    most: int = 10_000
    report: Report = silent


def sample(flow: Flow, x: Tensor, start: Node, end: Node) -> tuple[Tensor, tuple[int, ...]]:
    """x [B, ...] at `start` carried to `end`, in either direction, and each row's evaluations.
    Raises InvalidValue where the prediction tells nothing (`eps` at alpha = 0, `x0` at sigma = 0)
    and where `flow.most` evaluations do not reach the end."""
    rows = [_carried(flow, row, start, end, []) for row in x.split(1)]
    values = torch.stack([z for z, _, _ in rows]).view_as(x) * hypot(end.alpha, end.sigma)
    return values.to(x.dtype), tuple(count for _, _, count in rows)


def bits_per_dimension(
    flow: Flow, x: Tensor, data: Node, noise: Node, *,
    seeds: Sequence[int] | None = None, probes: int = 1,
    prior: Callable[[Tensor, Node], Tensor] | None = None,
) -> tuple[Tensor, tuple[int, ...]]:  # fmt: skip
    """-log2 p(x) / D [B] of x [B, ...] at `data`, D numbers a row (Song et al., 2021, eq. 39), and
    each row's evaluations; raises as `sample` does.
    The divergence is exact without `seeds` (D backward passes an evaluation); with them it is
    Hutchinson's estimate by `probes` Rademacher vectors of a row's seed. `prior(x [1, ...],
    noise) -> [1]` is the log density at `noise`; left out, z is standard normal there, as samplers
    begin: wrong by what is left of the data. For bytes scaled to -1..1 add log2(127.5)."""
    bits, counts = [], []
    for row, seed in zip(x.split(1), [None] * len(x) if seeds is None else seeds, strict=True):
        if seed is None:
            vectors = torch.eye(row.numel()).view(-1, *row.shape)
        else:
            shape, streams = tuple(row.shape[1:]), range(_PROBES, _PROBES + probes)
            drawn = torch.stack([step_noise([seed], 0, shape, "philox", k) for k in streams])
            vectors = torch.where(drawn < 0, -1.0, 1.0).to(x) / probes**0.5
        z, spread, count = _carried(flow, row, data, noise, [*vectors.to(x)])
        last = -0.5 * (z.square().mean() + log(2 * pi))
        if prior is not None:
            length = hypot(noise.alpha, noise.sigma)
            last = prior((z * length).view_as(row), noise)[0] / len(z) + log(length)
        bits.append((log(hypot(data.alpha, data.sigma)) - spread - last) / log(2))
        counts.append(count)
    return torch.stack(bits), tuple(counts)


def _carried(
    flow: Flow, x: Tensor, start: Node, end: Node, vectors: list[Tensor]
) -> tuple[Tensor, Tensor, int]:
    """z [D] of one row at `end`; the integral of sum(v J v) / D over `vectors` [1, ...], J the
    Jacobian of dz / dtheta; and the evaluations."""
    (low, high), wanted = sorted((start.rho, end.rho)), len(vectors) > 0

    def rate(y: Tensor, theta: float) -> Tensor:
        node = flow.path.node(min(max(inf if theta >= pi / 2 else tan(theta), low), high))
        length, (p, q) = hypot(node.alpha, node.sigma), _slope(flow, node)
        with torch.inference_mode(False), torch.set_grad_enabled(wanted):
            asked = (y[:-1] * length).view_as(x).to(x.dtype, copy=True).requires_grad_(wanted)
            out = flow.ask(asked, node)
            turned = [v * torch.autograd.grad(out, asked, v, retain_graph=True)[0] for v in vectors]
        trace = sum(float(v.double().sum()) for v in turned)
        along = y.new_tensor([length * (p + q * trace / x.numel()) if wanted else 0.0])
        return torch.cat([p * length * y[:-1] + q * out.detach().flatten().double(), along])

    y = torch.cat([x.flatten().double() / hypot(start.alpha, start.sigma), x.new_zeros(1).double()])
    y, count = _integrated(flow, rate, y, atan(start.rho), atan(end.rho))
    return y[:-1], y[-1], count


def _slope(flow: Flow, node: Node) -> tuple[float, float]:
    """(p, q) of dz / dtheta = p x + q out, without loss of digits at either end."""
    length = hypot(node.alpha, node.sigma)
    c, s = node.alpha / length, node.sigma / length
    if node.rho >= 1:  # by x0: (c z - x0) / s
        p, q = to_x0(flow.prediction, node)
        return (c / length - p) / s, -q / s
    p, q = to_drift(flow.prediction, flow.path.drift, node)
    if flow.path.drift == "velocity":  # ((c - s) z + velocity) / (c + s)
        return ((c - s) / length + p) / (c + s), q / (c + s)
    return (p - s / length) / c, q / c  # by noise: (noise - s z) / c


def _integrated(
    flow: Flow, rate: Callable[[Tensor, float], Tensor], y: Tensor, at: float, end: float
) -> tuple[Tensor, int]:
    """y [D + 1] at theta `at`, carried to `end`, and the evaluations of its `rate`."""
    begin, step, before, count, growth = at, (end - at) / 100, 1e-4, 1, 5.0
    first = rate(y, at)
    while at != end:
        if count + 6 > flow.most or abs(step) < 1e-13:
            what = f"{count} evaluations led arctan(rho) to {at:.4g} only, on its way to {end:.4g}."
            raise InvalidValue(what, do="Allow more, or a larger error. Are all outputs finite?")
        after = end if abs(end - at) <= 1.01 * abs(step) else at + step
        step, slopes, new = after - at, [first], y
        for place, weights in _STAGES:
            new = y + step * sum(w * k for w, k in zip(weights, slopes, strict=True))
            slopes.append(rate(new, after if place == 1 else at + place * step))
        wrong = step * sum(w * k for w, k in zip(_ERROR, slopes, strict=True))
        wrong = (wrong / (flow.atol + flow.rtol * torch.maximum(y.abs(), new.abs()))).abs()
        error = float(torch.maximum(wrong[:-1].square().mean().sqrt(), wrong[-1]).clamp_min(1e-10))
        factor = max(0.2, 0.9 * error**-0.17 * before**0.04)  # 0.2 too where error is NaN
        count, step, growth = count + 6, step * min(factor, growth), 5.0 if error <= 1 else 1.0
        if error <= 1:
            y, at, first, before = new, after, slopes[-1], max(error, 1e-4)
        flow.report(Progress(count, 0, f"{(at - begin) / (end - begin):.0%} of the way"))
    return y, count
