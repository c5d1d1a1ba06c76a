"""The loss that removes noise: its identities, its floors, its minimum."""

from __future__ import annotations

import json
from math import log

import pytest
import torch
from four_points import PATHS, POINTS, SPREAD, as_said, best, even, expected, hermite
from torch import Tensor

from diptych.diffusion.paths import (
    FlowPath,
    Path,
    VarianceExploding,
    scaled_linear_betas,
    vp_of_betas,
    zero_terminal,
)
from diptych.diffusion.predictions import to_x0
from diptych.foundation.config import from_json, to_json, with_changes
from diptych.foundation.errors import InvalidValue, NotFound
from diptych.objectives.denoising import (
    BANDS,
    Denoising,
    Noised,
    bands,
    denoising_loss,
    noised,
    noised_at,
    squared_errors,
)
from diptych.objectives.levels import Levels
from diptych.objectives.places import at_rhos, at_times
from diptych.objectives.score_matching import geometric_sigmas, score_matching_loss
from diptych.objectives.weights import PREDICTIONS, Weight, per_clean

SD = vp_of_betas(scaled_linear_betas())
ONE = torch.ones(1, dtype=torch.float64)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=_generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("prediction", ["eps", "v", "x0", "velocity"])
def test_every_error_is_that_of_x0_scaled(prediction):
    """What the core makes of the network's output is off by what the weights say."""
    path, x0, noise = PATHS[prediction], _normal(50, 6), _normal(50, 6, seed=1)
    rhos = torch.logspace(-2, 2, 50, dtype=torch.float64)
    at = at_rhos(path, rhos)
    point = noised_at(path, x0, noise, at, Denoising(prediction=prediction))
    out = point.target + 0.1 * _normal(50, 6, seed=2)
    pairs = [to_x0(prediction, path.node(float(rho))) for rho in rhos]
    p, q = (
        torch.tensor(column, dtype=torch.float64)[:, None] for column in zip(*pairs, strict=True)
    )
    e = (p * point.x + q * out - x0).square().sum(1)
    own = squared_errors(point, out).sum(1)
    torch.testing.assert_close(own, per_clean(prediction, at) * e, rtol=1e-12, atol=0)
    snr = at.snr
    factor = {"eps": snr, "v": snr + 1, "x0": ONE, "velocity": at.sigma**-2}[prediction]
    torch.testing.assert_close(own, factor * e, rtol=1e-12, atol=0)


def test_edm_is_its_preconditioning():
    x0, noise = _normal(50, 6), _normal(50, 6, seed=1)
    rhos = torch.logspace(-2.6, 1.9, 50, dtype=torch.float64)
    at = at_rhos(VarianceExploding(), rhos)
    config = Denoising(prediction="edm", weight=Weight(kind="edm"))
    point = noised_at(VarianceExploding(), x0, noise, at, config)
    sigma = rhos[:, None]
    x, variance = x0 + sigma * noise, sigma**2 + SPREAD**2
    torch.testing.assert_close(point.x, x / variance.sqrt(), rtol=1e-13, atol=0)
    torch.testing.assert_close(point.time, rhos.log() / 4, rtol=1e-13, atol=1e-15)
    out = point.target + 0.1 * _normal(50, 6, seed=2)
    said = SPREAD**2 / variance * x + sigma * SPREAD / variance.sqrt() * out
    lost = variance / (sigma * SPREAD) ** 2 * (said - x0).square()
    counted = squared_errors(point, out) * point.weight[:, None]
    torch.testing.assert_close(counted, lost, rtol=1e-11, atol=1e-14)


FLOORS = {"x0": 0.577163, "eps": 0.577163, "v": 1.154327, "velocity": 2.308653, "edm": 2.885817}


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_best_network_loses_the_floor_at_equal_signal_and_noise(prediction):
    own, _, _ = expected(Denoising(prediction=prediction), ONE, hermite())
    assert float(own) == pytest.approx(FLOORS[prediction], abs=1.5e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_floors_of_all_levels_make_the_entropy_of_the_points(prediction):
    """1/2 of the integral of e over SNR is ln K (Guo et al., 2005), whatever is predicted."""
    level = torch.arange(-12, 6.05, 0.1, dtype=torch.float64)
    own, _, at = expected(Denoising(prediction=prediction), (-level).exp(), even())
    inner = own / per_clean(prediction, at) * at.snr  # dSNR = 2 SNR dlevel
    entropy = float((inner.sum() - (inner[0] + inner[-1]) / 2) * 0.1)
    assert entropy == pytest.approx(log(len(POINTS)), abs=1e-9)


SCHEMES = [Weight(), Weight(kind="min-snr"), Weight(kind="p2"), Weight(kind="edm")]


@pytest.mark.parametrize("weight", SCHEMES, ids=lambda weight: weight.kind)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_best_network_is_a_minimum_under_every_weight(prediction, weight):
    config = Denoising(prediction=prediction, weight=weight)
    rhos = torch.tensor([0.3, 1.0, 3.0], dtype=torch.float64)

    def loss(by: float, wave: float) -> Tensor:
        def say(point: Noised, name: str) -> Tensor:
            return best(point, name) + by * (wave * point.x + 0.3).sin()

        return expected(config, rhos, hermite(), say)[1]

    floor = loss(0.0, 1.0)
    for wave in (0.0, 0.7, 3.0):
        up, down = loss(1e-2, wave), loss(-1e-2, wave)
        assert (up > floor).all() and (down > floor).all()
        torch.testing.assert_close(up, down, rtol=1e-9, atol=1e-12)  # no slope at the minimum


def test_cosmap_times_and_cosmap_weights_expect_the_same_loss():
    x0 = POINTS.repeat(10_000)[:, None]

    def wrong_in_the_middle(x: Tensor, t: Tensor) -> Tensor:
        return 0.0 * x + 6.0 * ((t - 0.5).abs() < 0.2)[:, None]

    by_times, by_weights, plain = [
        float(
            denoising_loss(
                wrong_in_the_middle, x0, _generator(4), path=FlowPath(), config=config
            ).total
        )
        for config in (
            Denoising(levels=Levels(kind="cosmap", even=True)),
            Denoising(levels=Levels(even=True), weight=Weight(kind="cosmap")),
            Denoising(levels=Levels(even=True)),
        )
    ]
    assert by_times == pytest.approx(by_weights, rel=0.01)
    assert by_times > 1.1 * plain


@pytest.mark.parametrize(
    ("path", "prediction", "levels"),
    [
        (FlowPath(), "velocity", Levels(kind="logit-normal")),
        (SD, "v", Levels()),
        (zero_terminal(SD), "v", Levels()),
        (SD, "eps", Levels(kind="log-normal")),
        (VarianceExploding(), "edm", Levels(kind="log-normal")),
    ],
)
def test_the_true_answer_loses_nothing_and_has_no_gradient(path: Path, prediction, levels):
    config = Denoising(prediction=prediction, levels=levels, weight=Weight(kind="min-snr"))
    x0 = _normal(7, 3, 4, 4)
    point = noised(path, x0, _generator(1), config)
    off = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    loss = denoising_loss(
        lambda x, t: point.target + off, x0, _generator(1), path=path, config=config
    )
    loss.total.backward()
    assert float(loss.total.detach()) == 0 and float(off.grad) == 0
    assert set(loss.parts) == set(BANDS) and not any(loss.parts.values())
    assert not any(part.requires_grad for part in loss.parts.values())


def test_a_row_does_not_know_its_neighbours():
    config = Denoising(prediction="v", weight=Weight(kind="min-snr"))
    x0, noise = _normal(6, 3, 4, 4), _normal(6, 3, 4, 4, seed=1)
    steps = torch.tensor([0, 10, 400, 700, 990, 999])
    together = noised_at(SD, x0, noise, at_times(SD, steps), config)
    for i in range(6):
        one = slice(i, i + 1)
        alone = noised_at(SD, x0[one], noise[one], at_times(SD, steps[one]), config)
        for name in ("x", "time", "target", "weight"):
            assert torch.equal(getattr(alone, name), getattr(together, name)[one])


def test_bands_are_thirds_by_noise_level_and_know_no_weights():
    at = at_times(FlowPath(), torch.tensor([0.9, 0.1, 0.5, 1.0, 0.2, 0.6]))
    squares = torch.tensor([9.0, 1.0, 5.0, 11.0, 3.0, 7.0])[:, None].expand(-1, 4)
    found = {name: float(value) for name, value in bands(squares, at).items()}
    assert found == {"low_noise": 2.0, "mid_noise": 6.0, "high_noise": 10.0}
    assert bands(squares[:2], at) == {}


def test_offset_moves_whole_channels():
    x0, config = torch.zeros(4000, 2, 3, 3), Denoising(prediction="eps", offset=0.5)
    plain = noised(SD, x0, _generator(2), Denoising(prediction="eps"))
    offset = noised(SD, x0, _generator(2), config)
    assert torch.equal(plain.time, offset.time)
    moved = offset.target - plain.target  # the same draws before it
    assert float((moved - moved.mean((2, 3), keepdim=True)).abs().max()) < 1e-5
    channels = moved[:, :, 0, 0]
    assert float(channels.std()) == pytest.approx(0.5, rel=0.03)
    assert abs(float(torch.corrcoef(channels.T)[0, 1])) < 0.06
    with pytest.raises(InvalidValue, match="Set offset to 0"):
        noised(SD, torch.zeros(4, 2), _generator(), config)


def test_half_precision_is_widened():
    point = noised(FlowPath(), torch.zeros(4, 2, 2, 2, dtype=torch.bfloat16), _generator(),
                   Denoising())  # fmt: skip
    assert {part.dtype for part in (point.x, point.target, point.time)} == {torch.float32}
    assert squared_errors(point, point.target.bfloat16()).dtype == torch.float32


def test_the_config_is_data_and_refuses_what_it_does_not_read():
    config = Denoising(
        prediction="edm", levels=Levels(kind="log-normal"), weight=Weight(kind="edm"),
        sigma_data=0.4,
    )  # fmt: skip
    assert from_json(Denoising, json.loads(json.dumps(to_json(config)))) == config
    changed = with_changes(Denoising(), ["levels.kind=mode", "weight.kind=p2", "weight.k=2"])
    assert changed.weight == Weight(kind="p2", k=2.0)
    with pytest.raises(InvalidValue, match="read sigma_data"):
        Denoising(sigma_data=0.5)
    with pytest.raises(InvalidValue, match="offset"):
        Denoising(offset=-0.1)
    with pytest.raises(NotFound, match="velocity"):
        Denoising(prediction="velocty")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidValue, match="variance preserving"):
        denoising_loss(
            lambda x, t: x, torch.zeros(2, 2), _generator(), path=FlowPath(),
            config=Denoising(prediction="v"),
        )  # fmt: skip


def test_score_matching_knows_the_score_of_a_gaussian():
    """With data N(0, S) the score is -x / (S + sigma^2), and what it loses is known."""
    spread, sigmas = 0.7, geometric_sigmas(1.0, 0.01, 10)
    x0 = spread**0.5 * _normal(40_000, 1)
    floor = sum(0.5 * spread / (spread + s * s) for s in sigmas) / len(sigmas)

    def loss(by: float) -> float:
        def score(x: Tensor, sigma: Tensor) -> Tensor:
            return -by * x / (spread + sigma.square())[:, None]

        return float(score_matching_loss(score, x0, _generator(3), sigmas=sigmas).total)

    assert loss(1.0) == pytest.approx(floor, rel=0.03)
    assert loss(0.9) > loss(1.0) < loss(1.1)


def test_score_matching_counts_a_level_by_its_variance():
    x0, sigmas = torch.zeros(5, 3), (2.0, 0.5)
    loss = score_matching_loss(lambda x, s: -x / s[:, None].square(), x0, _generator(),
                               sigmas=sigmas)  # fmt: skip
    assert float(loss.total) < 1e-12  # of a point alone the noise is known
    seen: list[Tensor] = []

    def nothing(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(sigma)
        return torch.zeros_like(x)

    loss = score_matching_loss(nothing, torch.zeros(9000, 3), _generator(), sigmas=sigmas)
    assert float(loss.total) == pytest.approx(0.5, rel=0.02)  # 1/2 E noise^2 at every level
    assert set(seen[0].tolist()) == set(sigmas)
    assert float((seen[0] == 2.0).float().mean()) == pytest.approx(0.5, abs=0.03)
    levels = torch.tensor(geometric_sigmas())
    torch.testing.assert_close(levels[1:] / levels[:-1], torch.full((9,), 0.01 ** (1 / 9)))
    with pytest.raises(InvalidValue, match="do not fall"):
        geometric_sigmas(0.1, 1.0)


def test_as_said_is_the_target_of_the_data():
    """The helper of these tests and the objective agree on what is predicted."""
    for prediction in PREDICTIONS:
        path = PATHS[prediction]
        x0, noise = _normal(9, 1), _normal(9, 1, seed=1)
        at = at_rhos(path, torch.logspace(-1, 1, 9, dtype=torch.float64))
        point = noised_at(path, x0, noise, at, Denoising(prediction=prediction))
        x = at.alpha[:, None] * x0 + at.sigma[:, None] * noise
        torch.testing.assert_close(as_said(prediction, x, x0, at), point.target)
