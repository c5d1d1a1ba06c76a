"""Levels follow the distributions that they are named after."""

from __future__ import annotations

import json
from math import atan, inf, log, pi

import numpy as np
import pytest
import torch
from torch.special import ndtr

from diptych.diffusion.paths import (
    FlowPath,
    Path,
    VarianceExploding,
    VariancePreserving,
    scaled_linear_betas,
    vp_of_betas,
    zero_terminal,
)
from diptych.foundation.config import from_json, to_json, with_changes
from diptych.foundation.errors import InvalidValue, NotFound
from diptych.objectives.levels import KINDS, MODE_RANGE, Levels, draw, logit_normal, mode

CPU = torch.device("cpu")
COUNT = 20_000
SD = vp_of_betas(scaled_linear_betas())
EXPLODING = VarianceExploding()


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _cdf_of_mode(scale: float):
    """By inversion: t falls with u, so that P(t <= y) = 1 - u(y)."""
    u = np.linspace(0, 1, 200_001)
    t = 1 - u - scale * (np.cos(pi / 2 * u) ** 2 - 1 + u)
    return lambda y: torch.from_numpy(1 - np.interp(y.numpy(), t[::-1], u[::-1]))


def _cut(below, low: float, high: float):
    """A distribution function, given that the value lies between two ends."""
    first, last = below(torch.tensor([low, high], dtype=torch.float64))
    return lambda y: (below(y) - first) / (last - first)


def _normal(mean: float, std: float):
    return lambda rho: ndtr((rho.log() - mean) / std)


# Kind, path, what is distributed, its distribution function.
CLOSED = [
    (Levels(), FlowPath(), "sigma", lambda t: t),
    (Levels(kind="logit-normal", mean=0.7, std=1.2), FlowPath(), "sigma",
     lambda t: ndtr((torch.logit(t) - 0.7) / 1.2)),
    (Levels(kind="cosmap"), FlowPath(), "sigma",
     lambda t: torch.atan(2 * t - 1) * 2 / pi + 0.5),
    *[(Levels(kind="mode", scale=s), FlowPath(), "sigma", _cdf_of_mode(s))
      for s in (-1.0, -0.4, 0.0, 0.81, 1.29, 1.75)],
    (Levels(kind="log-normal"), EXPLODING, "sigma", _cut(_normal(-1.2, 1.2), 0.002, 80)),
    (Levels(kind="log-normal", mean=3.0, std=2.0), EXPLODING, "sigma",
     _cut(_normal(3, 2), 0.002, 80)),
    (Levels(kind="log-uniform"), EXPLODING, "sigma",
     lambda s: (s / 0.002).log() / log(80 / 0.002)),
]  # fmt: skip


def _distance(values: torch.Tensor, cdf) -> float:
    """The largest distance between the shares below a value, drawn and stated."""
    below = cdf(values.double().sort().values)
    steps = torch.arange(len(values) + 1, dtype=torch.float64) / len(values)
    return float(torch.maximum((steps[1:] - below).abs(), (below - steps[:-1]).abs()).max())


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize(("levels", "path", "what", "cdf"), CLOSED)
def test_levels_follow_their_distribution(levels, path, what, cdf, even):
    levels = Levels(**{**to_json(levels), "even": even})
    values = getattr(draw(levels, path, COUNT, _generator(7), CPU), what)
    # 2 / sqrt(n) is passed by chance once in 1,500 seeds. Even draws lie within 1 / n, and what
    # single precision of one number and a table of the inverse leave.
    assert _distance(values, cdf) < (1e-4 if even else 2 / COUNT**0.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", [FlowPath(), SD, zero_terminal(SD), EXPLODING])
def test_levels_stay_on_their_path(kind: str, path: Path):
    levels = Levels(kind=kind)
    times = not KINDS[kind].ratios
    two_ended = path.start < inf and path.end > 0
    if (times and path is EXPLODING) or (kind == "log-uniform" and not two_ended):
        with pytest.raises(InvalidValue, match="Choose log-normal"):
            draw(levels, path, 4, _generator(), CPU)
        return
    at = draw(levels, path, COUNT, _generator(3), CPU)
    rhos = at.sigma / at.alpha
    assert path.end * (1 - 1e-12) <= float(rhos.min()) < float(rhos.max())
    assert float(rhos.max()) <= path.start * (1 + 1e-12)
    assert at.time.isfinite().all()
    if times and isinstance(path, VariancePreserving):
        steps = at.time.long()
        assert torch.equal(steps.double(), at.time)
        assert int(steps.min()) >= 0 and int(steps.max()) <= 999


def test_uniform_steps_are_all_drawn_equally_often():
    at = draw(Levels(even=True), SD, 50_000, _generator(1), CPU)
    counts = at.time.long().bincount(minlength=1000)
    assert len(counts) == 1000 and 49 <= int(counts.min()) <= int(counts.max()) <= 51


def test_mode_falls_within_its_range_and_only_there():
    u = torch.linspace(0, 1, 10_001, dtype=torch.float64)

    def falls(scale: float) -> bool:
        t = 1 - u - scale * ((pi / 2 * u).cos().square() - 1 + u)
        return bool((t.diff() <= 1e-15).all())

    low, high = MODE_RANGE
    assert round(high, 3) == 1.752 and falls(low) and falls(high)
    assert not falls(low - 0.01) and not falls(high + 0.01)
    for scale in (low, -0.3, 1.29, 1.75):
        assert Levels(kind="mode", scale=scale).scale == scale
        drawn = mode(COUNT, _generator(), CPU, scale=scale, even=True)
        assert float(drawn.mean()) == pytest.approx(0.5, abs=1e-4)
    for scale in (-1.01, 1.8):
        with pytest.raises(InvalidValue, match=r"-1 to 1\.752"):
            Levels(kind="mode", scale=scale)


def test_a_log_normal_ratio_of_a_flow_is_its_logit_normal_time():
    by_ratio = draw(Levels(kind="log-normal", mean=0.7, std=1.2, even=True), FlowPath(), 999,
                    _generator(5), CPU)  # fmt: skip
    by_time = draw(Levels(kind="logit-normal", mean=0.7, std=1.2, even=True), FlowPath(), 999,
                   _generator(5), CPU)  # fmt: skip
    torch.testing.assert_close(by_ratio.sigma, by_time.sigma, rtol=1e-9, atol=1e-12)


def test_even_draws_make_the_mean_of_a_batch_vary_less():
    def spread(even: bool) -> float:
        levels, generator = Levels(kind="logit-normal", even=even), _generator(11)
        means = [draw(levels, FlowPath(), 64, generator, CPU).sigma.mean() for _ in range(200)]
        return float(torch.stack(means).std())

    assert spread(True) < spread(False) / 5


def test_each_row_of_an_even_draw_has_the_whole_distribution():
    levels, generator = Levels(kind="cosmap", even=True), _generator(13)
    drawn = torch.stack([draw(levels, FlowPath(), 3, generator, CPU).sigma for _ in range(3000)])
    for row in drawn.T:
        assert _distance(row, CLOSED[2][3]) < 2 / 3000**0.5


def test_draws_are_those_of_their_seed():
    assert torch.equal(logit_normal(9, _generator(2), CPU), logit_normal(9, _generator(2), CPU))
    # Recipes go on with what they began: sigmoid of one normal number a row, single precision.
    wanted = torch.sigmoid(0.7 + 1.2 * torch.randn(9, generator=_generator(2)))
    assert torch.equal(logit_normal(9, _generator(2), CPU, mean=0.7, std=1.2), wanted)


def test_cosmap_has_the_density_of_its_weight():
    # The integral of 2 / (pi (1 - 2t + 2t^2)) to t is atan(2t - 1) 2 / pi + 1 / 2.
    at = draw(Levels(kind="cosmap", even=True), FlowPath(), COUNT, _generator(), CPU)
    share = float((at.sigma < 0.25).double().mean())
    assert share == pytest.approx(atan(-0.5) * 2 / pi + 0.5, abs=1e-4)


def test_levels_are_a_config_and_refuse_what_they_do_not_read():
    levels = Levels(kind="log-normal", mean=-0.4, even=True)
    assert from_json(Levels, json.loads(json.dumps(to_json(levels)))) == levels
    assert with_changes(Levels(), ["kind=mode", "scale=0.5"]) == Levels(kind="mode", scale=0.5)
    with pytest.raises(InvalidValue, match="cosmap does not read std"):
        Levels(kind="cosmap", std=1.0)
    with pytest.raises(InvalidValue, match=r"mode does not read mean.*reads scale"):
        Levels(kind="mode", mean=0.0)
    with pytest.raises(InvalidValue, match="above 0"):
        Levels(kind="logit-normal", std=0.0)
    with pytest.raises(InvalidValue, match="finite"):
        Levels(kind="log-normal", mean=inf)
    with pytest.raises(NotFound, match="cosmap"):
        Levels(kind="cosmpa")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidValue, match="hardly ever"):
        draw(Levels(kind="log-normal", mean=12.0), EXPLODING, 4, _generator(), CPU)
