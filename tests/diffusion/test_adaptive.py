"""The adaptive flow against closed forms and another integrator; likelihoods that are known."""

from __future__ import annotations

import itertools
from functools import partial
from math import exp, hypot, inf, log, pi

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from benchmarks.exact import Exact, Gaussian, Mixture
from diptych.diffusion.adaptive import Flow, bits_per_dimension, sample
from diptych.diffusion.paths import (
    ContinuousVP,
    FlowPath,
    Node,
    Path,
    VarianceExploding,
    scaled_linear_betas,
    vp_of_betas,
    zero_terminal,
)
from diptych.foundation.errors import InvalidValue
from diptych.foundation.progress import Progress


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


GAUSSIAN = Gaussian(f64(0.3, -1.2, 2.0, 0.1), f64(1.0, 0.25, 4.0, 0.05))
MIXTURE = Mixture(
    f64(0.3, 0.7),
    torch.stack([f64(-1.0, 0.5, 2.0), f64(1.5, -0.2, 0.4)]),
    torch.stack([f64(0.2, 1.0, 0.5), f64(0.6, 0.1, 2.0)]),
)
NOISE = torch.stack([f64(0.4, -1.1, 0.7, 1.9), f64(-2.0, 0.3, 1.9, 0.2), f64(0.1, 0.6, -0.8, -1)])
FLOW, VE = FlowPath(), VarianceExploding()
SUB = ContinuousVP(sub=True)
VP = vp_of_betas(scaled_linear_betas())
WAYS: dict[str, tuple[Path, str, Node, Node]] = {
    "flow": (FLOW, "velocity", FLOW.at(1.0), FLOW.at(0.0)),
    "flow by x0": (FLOW, "x0", FLOW.at(1.0), FLOW.at(0.01)),
    "vp": (VP, "eps", VP.node(VP.start), VP.node(0.0)),
    "vp by v": (VP, "v", VP.node(VP.start), VP.node(VP.end)),
    "ve": (VE, "score", VE.node(VE.start), VE.node(VE.end)),
    "sub-vp by velocity": (SUB, "velocity", SUB.at(1.0), SUB.at(0.0)),
}


def flow_of(data: Exact, way: str, tolerance: float, most: int = 10_000) -> Flow:
    path, prediction, _, _ = WAYS[way]
    return Flow(partial(data.says, prediction), prediction, path, tolerance, tolerance, most)


def begin(way: str) -> tuple[Tensor, Node, Node]:
    _, _, start, end = WAYS[way]
    return NOISE * hypot(start.alpha, start.sigma), start, end


@pytest.mark.parametrize("way", WAYS)
def test_the_error_falls_with_the_tolerance(way: str):
    x, start, end = begin(way)
    exact, asked = GAUSSIAN.solution(x, start, end), 0
    for tolerance in (1e-4, 1e-7, 1e-10):
        reached, evaluations = sample(flow_of(GAUSSIAN, way, tolerance), x, start, end)
        assert float((reached - exact).abs().max()) < 10 * tolerance
        assert asked < min(evaluations) and max(evaluations) < 60 * tolerance**-0.08
        asked = max(evaluations)
    back, _ = sample(flow_of(GAUSSIAN, way, 1e-10), exact, end, start)
    torch.testing.assert_close(back, x, rtol=1e-7, atol=1e-7)


def test_a_mixture_against_another_integrator():
    """y = x / alpha obeys dy / dlambda = x0 - y, here by DOP853."""
    start, end = VP.node(VP.start), VP.node(exp(-3.5))

    def slope(level: float, y: np.ndarray) -> np.ndarray:
        node = VP.node(min(exp(-level), VP.start))
        x = torch.from_numpy(y)[None] * node.alpha
        return (MIXTURE.x0(x, node)[0] - torch.from_numpy(y)).numpy()

    x = NOISE[:, :3]
    flow = Flow(partial(MIXTURE.says, "eps"), "eps", VP, 1e-11, 1e-11)
    reached, _ = sample(flow, x, start, end)
    for row, first in zip(reached, x, strict=True):
        oracle = solve_ivp(
            slope, (start.level, end.level), (first / start.alpha).numpy(), "DOP853",
            rtol=1e-12, atol=1e-13,
        )  # fmt: skip
        expected = torch.from_numpy(oracle.y[:, -1]) * end.alpha
        torch.testing.assert_close(row, expected, rtol=1e-9, atol=1e-9)


def test_noise_alone_is_a_beginning_where_the_prediction_allows_it():
    path = zero_terminal(VP)
    start, end = path.node(inf), path.node(path.end)
    flow = Flow(partial(GAUSSIAN.says, "v"), "v", path, 1e-8, 1e-8)
    reached, _ = sample(flow, NOISE, start, end)
    torch.testing.assert_close(reached, GAUSSIAN.solution(NOISE, start, end), rtol=1e-6, atol=1e-6)
    with pytest.raises(InvalidValue, match="noise alone"):
        sample(Flow(partial(GAUSSIAN.says, "eps"), "eps", path), NOISE, start, end)
    with pytest.raises(InvalidValue, match="direction"):
        sample(flow_of(GAUSSIAN, "flow by x0", 1e-5), NOISE, FLOW.at(1.0), FLOW.at(0.0))


def test_a_row_does_not_know_its_neighbours():
    x, start, end = begin("flow")
    flow = flow_of(GAUSSIAN, "flow", 1e-5)
    together, evaluations = sample(flow, x, start, end)
    bits, _ = bits_per_dimension(flow, together, end, start, seeds=[4, 5, 6], probes=2)
    for i in range(3):
        alone, asked = sample(flow, x[i : i + 1], start, end)
        assert torch.equal(alone, together[i : i + 1]) and asked == evaluations[i : i + 1]
        one, _ = bits_per_dimension(flow, alone, end, start, seeds=[4 + i], probes=2)
        assert torch.equal(one, bits[i : i + 1])
    assert len(set(evaluations)) > 1


def test_float32_is_what_the_network_sees_and_gives():
    seen: set[torch.dtype] = set()
    small = Gaussian(GAUSSIAN.mean.float(), GAUSSIAN.variance.float())

    def ask(x: Tensor, node: Node) -> Tensor:
        seen.add(x.dtype)
        return small.says("velocity", x, node)

    start, end = FLOW.at(1.0), FLOW.at(0.0)
    with torch.inference_mode():
        reached, _ = sample(Flow(ask, "velocity", FLOW), NOISE.float(), start, end)
        bits, _ = bits_per_dimension(Flow(ask, "velocity", FLOW), reached, end, start)
    assert seen == {torch.float32} and reached.dtype == torch.float32
    exact = GAUSSIAN.solution(NOISE, start, end).float()
    torch.testing.assert_close(reached, exact, rtol=1e-4, atol=1e-4)
    density = -GAUSSIAN.log_density(reached.double(), end) / 4 / log(2)
    torch.testing.assert_close(bits, density, rtol=1e-4, atol=1e-4)


def test_too_few_evaluations_and_broken_outputs_are_errors():
    x, start, end = begin("vp")
    with pytest.raises(InvalidValue, match=r"^\d+ evaluations .* Allow more"):
        sample(flow_of(GAUSSIAN, "vp", 1e-9, most=50), x, start, end)
    broken = Flow(lambda x, node: x * float("nan"), "eps", VP)
    with pytest.raises(InvalidValue, match="finite"):
        sample(broken, x, start, end)
    with pytest.raises(ValueError, match="zip"):
        bits_per_dimension(flow_of(GAUSSIAN, "vp", 1e-3), x, end, start, seeds=[1])


def test_progress_is_told():
    told: list[Progress] = []
    x, start, end = begin("vp")
    flow = Flow(partial(GAUSSIAN.says, "eps"), "eps", VP, report=told.append)
    _, evaluations = sample(flow, x[:1], start, end)
    assert told[-1] == Progress(evaluations[0], 0, "100% of the way")
    assert all(a.done < b.done for a, b in itertools.pairwise(told))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seeds", [None, [3, 4, 5]])
def test_bits_per_dimension_of_a_gaussian(way: str, seeds: list[int] | None):
    """Exact where the prior is; Rademacher probes are exact for a diagonal Jacobian."""
    _, noise, data = begin(way)
    drawn = GAUSSIAN.mean + NOISE * GAUSSIAN.variance.sqrt()
    x = data.alpha * drawn + data.sigma * NOISE.flip(0)
    flow = flow_of(GAUSSIAN, way, 1e-9)
    bits, _ = bits_per_dimension(flow, x, data, noise, seeds=seeds, prior=GAUSSIAN.log_density)
    expected = -GAUSSIAN.log_density(x, data) / 4 / log(2)
    torch.testing.assert_close(bits, expected, rtol=0, atol=1e-8)


def test_the_standard_prior_is_wrong_by_what_is_left_of_the_data():
    """The closed form with it: at the end of the flow, z is taken as standard normal."""
    x = GAUSSIAN.mean + NOISE * GAUSSIAN.variance.sqrt()
    gaps = []
    for rho in (20.0, 80.0):
        noise, data = VE.node(rho), VE.node(VE.end)
        bits, _ = bits_per_dimension(flow_of(GAUSSIAN, "ve", 1e-9), x, data, noise)
        z = GAUSSIAN.solution(x, data, noise) / hypot(1, rho)
        standard = -0.5 * (z.square() + log(2 * pi)) - log(hypot(1, rho))
        exact = GAUSSIAN.log_density(GAUSSIAN.solution(x, data, noise), noise)
        missed = (exact - standard.sum(1)) / 4 / log(2)
        truth = -GAUSSIAN.log_density(x, data) / 4 / log(2)
        torch.testing.assert_close(bits - truth, missed, rtol=0, atol=1e-8)
        gaps.append(float(missed.abs().max()))
    assert 0 < gaps[1] < gaps[0] / 3


def test_bits_per_dimension_of_a_mixture():
    x = torch.stack([f64(-0.8, 0.3, 1.5), f64(1.2, -0.1, 0.0), f64(0.3, 0.1, 1.0)])
    data, noise = FLOW.at(0.0), FLOW.at(0.99)
    flow = Flow(partial(MIXTURE.says, "velocity"), "velocity", FLOW, 1e-9, 1e-9)
    bits, _ = bits_per_dimension(flow, x, data, noise, prior=MIXTURE.log_density)
    exact = -MIXTURE.log_density(x, data) / 3 / log(2)
    torch.testing.assert_close(bits, exact, rtol=0, atol=1e-8)


def test_hutchinson_is_unbiased():
    """Over seeds and probes the mean is the exact trace's, within its standard error."""
    x = f64(-0.2, 0.2, 1.1)[None]
    data, noise = FLOW.at(0.2), FLOW.at(0.95)
    flow = Flow(partial(MIXTURE.says, "velocity"), "velocity", FLOW, 1e-3, 1e-3)
    exact = float(bits_per_dimension(flow, x, data, noise)[0])
    spreads = []
    for probes in (1, 4):
        estimate, _ = bits_per_dimension(
            flow, x.expand(32, -1), data, noise, seeds=range(32), probes=probes
        )
        error = float(estimate.std()) / 32**0.5
        assert error > 0 and abs(float(estimate.mean()) - exact) < 3 * error
        spreads.append(float(estimate.std()))
    assert spreads[1] < spreads[0] / 1.5
