"""Consistency losses against flows that are known in closed form."""

from __future__ import annotations

import copy
import json
from functools import partial
from math import erf, log, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diptych.foundation.config import from_json, to_json
from diptych.foundation.errors import InvalidValue, NotFound
from diptych.objectives.consistency import (
    STEPS,
    Consistency,
    Pairs,
    consistency_errors,
    consistency_training_loss,
    consistent,
    distillation_loss,
    draw_pairs,
    follow,
    heun_step,
    level_count,
    sigma_levels,
)

CPU = torch.device("cpu")
CONFIG = Consistency()
SMALL = Consistency(sigma_min=0.01, sigma_max=8.0, sigma_data=1.0)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=_generator(seed), dtype=torch.float64)


class Gaussian:
    """Data N(mean, variance): its denoiser, its flow, and the network whose f is that flow."""

    def __init__(self, mean: float, variance: float, config: Consistency):
        self.mean, self.variance, self.config = mean, variance, config

    def denoiser(self, x: Tensor, sigma: Tensor) -> Tensor:
        share = self.variance / (self.variance + sigma.square())
        return self.mean + share[:, None] * (x - self.mean)

    def moved(self, x: Tensor, sigma: Tensor, to: Tensor) -> Tensor:
        ratio = (self.variance + to.square()) / (self.variance + sigma.square())
        return self.mean + ratio.sqrt()[:, None] * (x - self.mean)

    def network(self, scaled: Tensor, time: Tensor) -> Tensor:
        sigma, data = (4 * time).exp(), self.config.sigma_data
        end = torch.full_like(sigma, self.config.sigma_min)
        x = scaled * (sigma.square() + data**2).sqrt()[:, None]
        above = (sigma - end)[:, None]
        skip = data**2 / (above.square() + data**2)
        c_out = data * above / (sigma.square() + data**2).sqrt()[:, None]
        off = self.moved(x, sigma, end) - skip * x
        return torch.where(above == 0, 0.0, off / c_out)


def _pairs(config: Consistency, levels: int, count: int) -> Pairs:
    return draw_pairs(config, sigma_levels(config, levels, CPU), count, _generator(5))


def test_every_network_says_x_at_the_smallest_level():
    x, sigma = _normal(8, 3), torch.full((8,), CONFIG.sigma_min, dtype=torch.float64)
    assert torch.equal(consistent(lambda scaled, t: 7 * scaled.sin() + 3, x, sigma, CONFIG), x)
    x = x.float()
    assert torch.equal(consistent(lambda scaled, t: scaled + 3, x, sigma, CONFIG), x)


def test_the_exact_function_of_a_gaussian_says_the_same_along_its_flow():
    data = Gaussian(0.7, 0.3, CONFIG)
    sigma = _pairs(CONFIG, 200, 300)
    high = 0.7 + (0.3 + sigma.high.square()).sqrt()[:, None] * _normal(300, 4)
    x = Pairs(high, data.moved(high, sigma.high, sigma.low))
    errors = consistency_errors(data.network, data.network, x, sigma, CONFIG)
    assert float(errors.max()) < 1e-12

    def move(x: Tensor, sigma: Pairs) -> Tensor:
        return data.moved(x, sigma.high, sigma.low)

    loss = distillation_loss(
        data.network, data.network, move, _normal(300, 4), _generator(), levels=200, config=CONFIG
    )
    assert 0 <= float(loss.total) < 1e-10
    off = Pairs(high, x.low + 1e-2)
    assert float(consistency_errors(data.network, data.network, off, sigma, CONFIG).min()) > 1e-6


@pytest.mark.parametrize(("solver", "order"), [("euler", 2), ("heun", 3)])
def test_distillation_of_a_gaussian_loses_what_its_solver_does(solver: str, order: int):
    """A step from one level to the next is wrong by gap^order; so is the distance."""
    data = Gaussian(0.7, 0.3, SMALL)
    errors = []
    for levels in (129, 257):
        sigma = sigma_levels(SMALL, levels, CPU)
        middle = int((levels - 1) * 0.75)
        pair = Pairs(*[sigma[i].expand(50) for i in (middle + 1, middle)])
        x = 0.7 + (0.3 + pair.high.square()).sqrt()[:, None] * _normal(50, 1)
        there = STEPS[solver](data.denoiser, x, pair)
        errors.append(float((there - data.moved(x, pair.high, pair.low)).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)
    x0 = 0.7 + 0.3**0.5 * _normal(200, 1)
    config = Consistency(**{**to_json(SMALL), "weight": "uniform", "huber": 1e-6})
    lost = [
        distillation_loss(
            data.network, data.network, partial(STEPS[solver], data.denoiser), x0, _generator(1),
            levels=levels, config=config,
        ).total
        for levels in (33, 129)
    ]  # fmt: skip
    assert float(lost[1]) < float(lost[0]) / 4 ** (order - 0.5) < 1e-3


@pytest.mark.parametrize("solver", STEPS)
def test_of_a_single_point_nothing_is_lost(solver: str):
    """Its flow is a straight line, its function closed: mean + (x - mean) sigma_min / sigma."""
    data, x0 = Gaussian(0.7, 0.0, CONFIG), torch.full((64, 3), 0.7, dtype=torch.float64)
    trained = consistency_training_loss(data.network, x0, _generator(), levels=40, config=CONFIG)
    distilled = distillation_loss(
        data.network, data.network, partial(STEPS[solver], data.denoiser), x0, _generator(),
        levels=40, config=CONFIG,
    )  # fmt: skip
    for loss in (trained, distilled):
        assert 0 <= float(loss.total) < 1e-11 and float(loss.parts["distance"]) < 1e-12


def test_no_gradient_reaches_the_target():
    student, target = nn.Linear(2, 2).double(), nn.Linear(2, 2).double()
    x0 = _normal(32, 2)

    def of(network: nn.Module):
        return lambda x, t: network(x) * t[:, None].cos()

    loss = distillation_loss(
        of(student), of(target), lambda x, sigma: 0.5 * x, x0, _generator(), levels=9, config=SMALL
    )
    loss.total.backward()
    assert all(p.grad is None for p in target.parameters())
    assert all(p.grad is not None and p.grad.any() for p in student.parameters())

    # A network that is its own target has the gradient of one with a frozen twin.
    student.zero_grad()
    consistency_training_loss(
        of(student), x0, _generator(1), levels=9, config=SMALL
    ).total.backward()
    sigma = draw_pairs(SMALL, sigma_levels(SMALL, 9, CPU), 32, draw := _generator(1))
    noise = torch.randn(32, 2, generator=draw, dtype=torch.float64)
    x = Pairs(*[x0 + level[:, None] * noise for level in sigma])
    errors = consistency_errors(of(student), of(copy.deepcopy(student)), x, sigma, SMALL)
    again = torch.autograd.grad(
        (errors / (sigma.high - sigma.low)).mean(), list(student.parameters())
    )
    for parameter, wanted in zip(student.parameters(), again, strict=True):
        torch.testing.assert_close(parameter.grad, wanted)


def test_levels_double_at_equal_distances():
    counts = [level_count(step, 800) for step in range(800)]
    assert [counts[i * 100] for i in range(8)] == [10 * 2**i + 1 for i in range(8)]
    assert [counts[i * 100 + 99] for i in range(8)] == [10 * 2**i + 1 for i in range(8)]
    assert level_count(399_999, 400_000) == 1281 and level_count(0, 1) == 11
    assert max(level_count(step, 1003) for step in range(1003)) == 1281
    for step, steps in ((-1, 10), (10, 10)):
        with pytest.raises(InvalidValue, match="not offered"):
            level_count(step, steps)


def test_levels_are_even_in_their_root_with_exact_ends():
    levels = sigma_levels(CONFIG, 40, CPU)
    assert float(levels[0]) == 0.002 and float(levels[-1]) == 80.0
    roots = np.linspace(0.002 ** (1 / 7), 80 ** (1 / 7), 40)
    np.testing.assert_allclose(levels.numpy(), roots**7, rtol=1e-12)
    with pytest.raises(InvalidValue, match="no neighbours"):
        sigma_levels(CONFIG, 1, CPU)


def test_pairs_are_drawn_as_their_share_of_the_log_normal():
    levels = sigma_levels(CONFIG, 21, CPU)
    below = [erf((log(s) + 1.1) / (sqrt(2) * 2.0)) for s in levels.tolist()]
    shares = np.diff(below) / (below[-1] - below[0])
    pairs = draw_pairs(CONFIG, levels, 50_000, _generator(2))
    at = torch.searchsorted(levels, pairs.low)
    assert torch.equal(levels[at], pairs.low) and torch.equal(levels[at + 1], pairs.high)
    found = at.bincount(minlength=20).numpy() / 50_000
    np.testing.assert_allclose(found, shares, atol=5 * sqrt(0.25 / 50_000))
    even = draw_pairs(Consistency(pairs="uniform"), levels, 50_000, _generator(2))
    counts = torch.searchsorted(levels, even.low).bincount(minlength=20)
    np.testing.assert_allclose(counts.numpy() / 50_000, 1 / 20, atol=5 * sqrt(0.05 / 50_000))


def test_distance_and_weight_are_as_published():
    sigma = _pairs(CONFIG, 12, 6)
    x = Pairs(_normal(6, 3, 2), _normal(6, 3, 2, seed=1))

    def zero(scaled: Tensor, time: Tensor) -> Tensor:
        return torch.zeros_like(scaled)

    high, low = (consistent(zero, a, s, CONFIG) for a, s in zip(x, sigma, strict=True))
    c = 0.00054 * sqrt(6)
    wanted = ((high - low).square().sum((1, 2)) + c**2).sqrt() - c
    errors = consistency_errors(zero, zero, x, sigma, CONFIG)
    torch.testing.assert_close(errors, wanted, rtol=1e-12, atol=0)

    x0, totals = torch.zeros(500, 1, dtype=torch.float64), {}
    for weight in ("inverse-gap", "uniform"):
        config = Consistency(pairs="uniform", weight=weight, sigma_min=1.0, sigma_max=3.0)
        loss = consistency_training_loss(zero, x0, _generator(3), levels=2, config=config)
        totals[weight] = float(loss.total)
        assert float(loss.parts["distance"]) == pytest.approx(
            totals[weight] * (2 if weight == "inverse-gap" else 1)
        )
    assert totals["uniform"] == pytest.approx(2 * totals["inverse-gap"], rel=1e-12)


def test_follow_is_a_moving_average():
    student, target = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        student.weight.fill_(5.0)
        student.running_mean.fill_(3.0)
    follow(target, student, 0.75)
    assert target.weight.tolist() == [2.0, 2.0] and target.running_mean.tolist() == [3.0, 3.0]


def test_the_config_is_data_and_refuses_what_is_not_offered():
    config = Consistency(pairs="uniform", weight="uniform")
    assert from_json(Consistency, json.loads(json.dumps(to_json(config)))) == config
    with pytest.raises(InvalidValue, match="no noise levels"):
        Consistency(sigma_min=2.0, sigma_max=1.0)
    with pytest.raises(InvalidValue, match="huber"):
        Consistency(huber=0.0)
    with pytest.raises(NotFound, match="log-normal"):
        Consistency(pairs="lognormal")  # pyright: ignore[reportArgumentType]


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)
        )

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        level = 4 * time[:, None]
        return self.layers(torch.cat([x, level / 3, level.sin(), level.cos()], dim=-1))


def _two_points(x: Tensor, sigma: Tensor) -> Tensor:
    """The denoiser of -1 and 1."""
    return (x / sigma[:, None].square()).tanh()


@pytest.mark.parametrize("way", ["distillation", "training"])
def test_one_call_ends_where_the_flow_of_two_points_does(way: str):
    x = SMALL.sigma_max * _normal(500, 1, seed=7)
    wanted = x
    for pair in sigma_levels(SMALL, 300, CPU).flip(0).unfold(0, 2, 1):
        wanted = heun_step(_two_points, wanted, Pairs(*[s.expand(500) for s in pair]))
    assert float((wanted.abs() - 1).abs().max()) < 0.1  # nearly all of the way to a point

    torch.manual_seed(0)
    student = Tiny()
    target, generator = copy.deepcopy(student), _generator(8)
    noise_alone = torch.full((500,), SMALL.sigma_max)

    @torch.no_grad()
    def error() -> float:
        return float((consistent(student, x.float(), noise_alone, SMALL) - wanted).abs().mean())

    before, optimizer = error(), torch.optim.Adam(student.parameters(), 5e-3)
    for step in range(700):
        x0 = torch.randint(2, (512, 1), generator=generator).float() * 2 - 1
        if way == "distillation":
            loss = distillation_loss(
                student,
                target,
                partial(heun_step, _two_points),
                x0,
                generator,
                levels=9,
                config=SMALL,
            )
        else:
            levels = level_count(step, 700, first=8, last=64)
            loss = consistency_training_loss(student, x0, generator, levels=levels, config=SMALL)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        follow(target, student, 0.9)
    assert before > 0.7 and error() < 0.35 * before
