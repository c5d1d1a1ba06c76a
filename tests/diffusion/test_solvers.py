"""Every solver against exact solutions: order, end, what the network predicts, back to noise."""

from __future__ import annotations

import itertools
from math import exp, log2

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.exact import Gaussian, Point
from benchmarks.exact import solve as solved
from benchmarks.solver_orders import (
    GAUSSIAN,
    MIXTURE,
    NOISY,
    ODE,
    PATH,
    STARTS,
    error,
    fails,
    variance_error,
)
from diptych.diffusion.kernel import C, N, Table, begin, step
from diptych.diffusion.paths import FlowPath, Node, VarianceExploding
from diptych.diffusion.predictions import PREDICTIONS, edm, to_drift, to_x0
from diptych.diffusion.solvers import ALIASES, SOLVERS, solver_named, table_of
from diptych.diffusion.spacings import nodes_of
from diptych.foundation.errors import InvalidValue, NotFound

START = STARTS[GAUSSIAN]
RISING = [name for name, solver in SOLVERS.items() if solver.rises]


@pytest.mark.parametrize("name", ODE)
def test_the_order_is_what_is_stated(name: str):
    errors = [error(name, steps) for steps in (128, 256, 512)]
    measured = [log2(a / b) for a, b in itertools.pairwise(errors)]
    assert not fails(name, measured[1]), measured
    assert errors[2] < errors[1] < errors[0]


@pytest.mark.parametrize("name", ["dpmpp-2m", "exp-ab3", "unipc", "heun", "dpm-solver-3"])
def test_the_order_holds_on_a_mixture(name: str):
    measured = log2(error(name, 128, MIXTURE) / error(name, 256, MIXTURE))
    assert not fails(name, measured, on_mixture=True)


@pytest.mark.parametrize("name", NOISY)
def test_the_weak_order_is_what_is_stated(name: str):
    measured = log2(variance_error(name, 128) / variance_error(name, 256))
    assert measured == pytest.approx(SOLVERS[name].order, abs=0.1)


def said(data: Gaussian, prediction: str, x: Tensor, node: Node) -> Tensor:
    """What a perfect network says, by turning the conversion around."""
    p, q = to_x0(prediction, node)
    return (data.x0(x, node) - p * x) / q


def walked(data: Gaussian, table: Table, prediction: str, x: Tensor) -> Tensor:
    state = begin(x)
    for node, by in zip(table.nodes, table.coefficients(x), strict=True):
        state = step(state, said(data, prediction, state.x, node), by)
    return state.x


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", ODE)
def test_what_the_network_predicts_makes_no_difference(name: str, prediction: str):
    nodes = nodes_of("log-snr", PATH, 9)
    one = walked(GAUSSIAN, table_of(name, PATH, nodes, prediction), prediction, START)
    other = solved(GAUSSIAN, table_of(name, PATH, nodes, "eps"), "eps", START)
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("prediction", [*PREDICTIONS, "edm of wider data"])
def test_the_conversions_agree_with_each_other(prediction: str):
    """x0 and eps from one word must give back x = alpha x0 + sigma eps."""
    kind = PREDICTIONS.get(prediction) or edm(sigma_data=1.3)
    for path in (PATH, FlowPath(), VarianceExploding()):
        for rho in (0.01, 0.3, 2.0, 40.0):
            node = path.node(rho)
            x, out = 0.7, -1.3
            (p, q), (pe, qe) = to_x0(kind, node), to_drift(kind, "eps", node)
            x0, eps = p * x + q * out, pe * x + qe * out
            assert node.alpha * x0 + node.sigma * eps == pytest.approx(x, rel=1e-9)
            pu, qu = to_drift(kind, "velocity", node)
            assert pu * x + qu * out == pytest.approx(eps - x0, rel=1e-9)


def test_edm_is_as_published():
    """c_skip, c_out of Karras et al., 2022, table 1, and no 0 / 0 where there is no noise."""
    for rho in (0.0, 0.01, 1.0, 80.0):
        p, q = to_x0("edm", VarianceExploding().node(rho))
        assert p == pytest.approx(0.25 / (rho**2 + 0.25), rel=1e-12)
        assert q == pytest.approx(rho * 0.5 / (rho**2 + 0.25) ** 0.5, rel=1e-12)
    assert to_drift("edm", "eps", VarianceExploding().node(0.0)) == (0.0, -1.0)


def test_the_preconditioned_network_sees_unit_variance():
    """EDM: with data of variance sigma_data^2 the scaled input has variance 1 everywhere."""
    for path in (PATH, VarianceExploding()):
        table = table_of("heun", path, nodes_of("karras", path, 8), "edm")
        for node, scale in zip(table.nodes, table.scale, strict=True):
            assert scale**2 * (node.alpha**2 * 0.25 + node.sigma**2) == pytest.approx(1)
    assert (table_of("euler", PATH, nodes_of("karras", PATH, 8), "eps").scale == 1).all()


@pytest.mark.parametrize("name", RISING)
def test_back_to_noise_and_down_again(name: str):
    """The way up is the way down: the round trip's error falls with the solver's order."""

    def missed(steps: int) -> float:
        down = nodes_of("log-snr", PATH, steps)
        up = down[::-1]
        x = down[-1].alpha * GAUSSIAN.mean + 0.3
        noise = solved(GAUSSIAN, table_of(name, PATH, up, "eps"), "eps", x)
        exact = GAUSSIAN.solution(x, up[0], up[-1])
        return float((noise - exact).abs().max())

    assert log2(missed(128) / missed(256)) > SOLVERS[name].order - 0.1


@pytest.mark.parametrize("name", RISING)
def test_back_to_noise_from_data_itself(name: str):
    nodes = nodes_of("karras", PATH, 400)[::-1]
    noise = solved(GAUSSIAN, table_of(name, PATH, nodes, "eps"), "eps", START)
    exact = GAUSSIAN.solution(START, nodes[0], nodes[-1])
    torch.testing.assert_close(noise, exact, rtol=0.06, atol=0.06)


def test_who_cannot_go_back_says_so():
    nodes = nodes_of("karras", PATH, 5)[::-1]
    with pytest.raises(InvalidValue, match=r"only goes to data.*euler"):
        table_of("unipc", PATH, nodes, "eps")


def test_aliases_are_the_same_step():
    """Names of other families for what is one step; on a flow too."""
    nodes = nodes_of("karras", PATH, 6)
    for alias, name in ALIASES.items():
        assert solver_named(alias) is SOLVERS[name]
    of = {name: table_of(name, PATH, nodes, "x0").rows for name in ("euler", "ddim")}
    np.testing.assert_array_equal(of["euler"], of["ddim"])
    flow = FlowPath()
    nodes = nodes_of("trailing", flow, 6, shift=3.0)
    data = Point(GAUSSIAN.mean)
    ends = [walked(GAUSSIAN, table_of("euler", flow, nodes[1:], p), p, START)
            for p in ("velocity", "x0", "eps", "v")]  # fmt: skip
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-12, atol=1e-12)
    assert not torch.equal(ends[0], data.mean)


def test_noise_that_is_needed_is_asked_for():
    table = table_of("euler-ancestral", PATH, nodes_of("log-snr", PATH, 4), "eps")
    with pytest.raises(ValueError, match="noise"):
        step(begin(START), START, table.coefficients(START)[0])


def test_an_unknown_solver_is_refused_with_the_nearest():
    with pytest.raises(NotFound, match="dpmpp-2m"):
        table_of("dpmpp2m", PATH, nodes_of("log-snr", PATH, 4), "eps")
    with pytest.raises(NotFound, match="velocity"):
        table_of("euler", PATH, nodes_of("log-snr", PATH, 4), "velocityy")


@pytest.mark.parametrize(
    ("name", "options"),
    [("euler", {"eta": 0.5}), ("tcd", {"eta": 0.5}), ("unipc", {"order": 3}),
     ("ddim", {"eta": 1.5}), ("tcd", {"gamma": -1.0}), ("edm-stochastic", {"churn": -1.0}),
     ("langevin", {"repeats": 0}), ("langevin", {"rate": 3.0}),
     ("consistency", {"kept": -1.0})],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(name: str, options: dict[str, float]):
    with pytest.raises(InvalidValue):
        table_of(name, PATH, nodes_of("log-snr", PATH, 4), "eps", **options)


def test_noise_that_a_consistency_network_keeps_is_not_added_again():
    """With the rest put on, the variance at each level is the data's and the level's."""
    path, kept, variance = VarianceExploding(), 0.3, 0.25
    nodes = [path.node(rho) for rho in (5.0, 1.0, 0.4, 0.0)]
    table = table_of("consistency", path, nodes, "x0", kept=kept)
    spread = variance + 25.0
    for row, s, t in zip(table.rows, nodes, nodes[1:], strict=False):
        # The flow's own map of Gaussian data from s down to the level that is kept.
        gain = ((variance + kept**2) / (variance + s.rho**2)) ** 0.5
        spread = (row[C[0]] * gain) ** 2 * spread + row[N] ** 2
        assert spread == pytest.approx(variance + max(t.rho, kept) ** 2, rel=1e-12)


def test_a_step_of_langevin_keeps_the_right_distribution_nearly():
    """Many short steps at one level: mean and variance of the data's own at that level."""
    node = PATH.node(1.0)
    nodes = [node, PATH.node(exp(-0.05))]
    table = table_of("langevin", PATH, nodes, "eps", repeats=3000, rate=0.02)
    mean, variance = torch.zeros(1, 4).double(), torch.zeros(1, 4).double()
    for row, asked in zip(table.rows[:-1], table.nodes, strict=False):
        # Affine in x: out = said(x), x' = X x + C out + N z.
        base = GAUSSIAN.says("eps", torch.zeros(1, 4).double(), asked)
        slope = GAUSSIAN.says("eps", torch.ones(1, 4).double(), asked) - base
        gain = row[3] + row[4] * slope
        mean, variance = gain * mean + row[4] * base, gain**2 * variance + row[8] ** 2
    torch.testing.assert_close(mean, node.alpha * GAUSSIAN.mean, rtol=0.02, atol=0.01)
    exact = node.alpha**2 * GAUSSIAN.variance + node.sigma**2
    torch.testing.assert_close(variance, exact, rtol=0.03, atol=0.0)
