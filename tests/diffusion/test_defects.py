"""Defects that widely used schedulers have, each a test that ours has it not.

The numbers are those of docs/disagreements.md, where what others do is shown too. Two of them,
the dynamic threshold (13) and rescaled silence (16), are guidance's: test_guidance_options.py.
"""

from __future__ import annotations

import itertools
from math import inf, log2

import numpy as np
import pytest
import torch

from benchmarks.exact import Gaussian, Point, solve
from benchmarks.solver_orders import GAUSSIAN, error, variance_error
from diptych.diffusion.kernel import N, begin, step
from diptych.diffusion.paths import (
    FlowPath,
    Node,
    Path,
    VarianceExploding,
    scaled_linear_betas,
    vp_of_betas,
    zero_terminal,
)
from diptych.diffusion.predictions import edm
from diptych.diffusion.solvers import SOLVERS, table_of
from diptych.diffusion.spacings import SPACINGS, nodes_of
from diptych.foundation.errors import InvalidValue
from diptych.objectives.places import at_rhos
from diptych.objectives.weights import Weight, weights

VP, FLOW, VE = vp_of_betas(scaled_linear_betas()), FlowPath(time_scale=1000), VarianceExploding()
ZERO = zero_terminal(VP)
POINT = Point(GAUSSIAN.mean)
DRAWN = torch.tensor([[0.8, 0.2, 0.1, -0.6]], dtype=torch.float64)
FEW = (1, 2, 3, 4, 10, 50)


def begin_at(node: Node) -> torch.Tensor:
    return node.alpha * GAUSSIAN.mean + node.sigma * DRAWN


def missed(name: str, path: Path, nodes: list[Node], prediction: str) -> float:
    """How far from the flow's own end, on Gaussian data."""
    x = begin_at(nodes[0])
    end = solve(GAUSSIAN, table_of(name, path, nodes, prediction), prediction, x)
    return float((end - GAUSSIAN.solution(x, nodes[0], nodes[-1])).abs().max())


def reaches(name: str, path: Path, nodes: list[Node], prediction: str) -> bool:
    """Whether data that is one point is returned exactly."""
    end = solve(POINT, table_of(name, path, nodes, prediction), prediction, begin_at(nodes[0]))
    return bool((end - POINT.mean).abs().max() < 1e-6)


def test_01_trailing_has_as_many_steps_as_were_asked_for():
    for steps in range(1, 1001):
        nodes = nodes_of("trailing", VP, steps)
        times = [node.time for node in nodes[:-1]]
        assert len(nodes) == steps + 1 and times[0] == 999 and times[-1] >= 0
        even = np.linspace(1000, 0, steps, endpoint=False) - 1
        assert np.abs(np.array(times) - even).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("name", [name for name, one in SOLVERS.items() if one.order])
def test_02_a_step_ends_where_the_next_begins(name: str):
    for steps in (24, 30, 300):
        nodes = nodes_of("trailing", VP, steps)
        table = table_of(name, VP, nodes, "eps")
        assert table.nodes[0] is nodes[0] and table.after[-1] is nodes[-1]
        ends = [node for node in table.after if node is not None]
        again = name in ("edm-stochastic", "langevin", "pndm")  # these go back, or ask twice
        assert again or ends == nodes[1:]
        for asked, after in zip(table.nodes[1:], table.after, strict=False):
            assert after is None or asked is after


def test_02_the_error_of_ddim_goes_on_falling():
    steps = (40, 80, 160, 320)
    errors = [missed("euler", VP, nodes_of("trailing", VP, n), "eps") for n in steps]
    assert all(a / b > 1.7 for a, b in itertools.pairwise(errors)) and errors[-1] < 6e-3


@pytest.mark.parametrize("name", ["dpmpp-2m", "unipc", "deis"])
def test_03_beta_begins_at_its_first_node_for_every_length(name: str):
    for path, prediction in ((VP, "eps"), (ZERO, "v")):
        for steps in (8, 31, 32, 50, 200):
            nodes = nodes_of("beta", path, steps)
            assert len({node.time for node in nodes[:-1]}) == steps
            table = table_of(name, path, nodes, prediction)
            assert table.nodes == tuple(nodes[:-1]) and np.isfinite(table.rows).all()
            assert reaches(name, path, nodes, prediction)


def test_04_bh1_reaches_data():
    for spacing, steps in itertools.product(("trailing", "linspace", "karras", "beta"), FEW):
        assert reaches("unipc-bh1", VP, nodes_of(spacing, VP, steps), "eps")
        if spacing in ("trailing", "beta"):
            assert reaches("unipc-bh1", FLOW, nodes_of(spacing, FLOW, steps), "velocity")


@pytest.mark.parametrize("spacing", ["karras", "exponential", "log-snr"])
def test_05_a_flow_takes_no_range_of_another_path(spacing: str):
    with pytest.raises(InvalidValue, match="first="):
        nodes_of(spacing, FLOW, 10)
    nodes = nodes_of(spacing, FLOW, 10, first=100.0, last=0.01)
    assert nodes[0].sigma == pytest.approx(100 / 101)
    for name in ("dpmpp-2m", "dpmpp-2s", "deis", "unipc"):
        end = [*nodes[:-1], FLOW.node(0.0)]
        assert reaches(name, FLOW, end, "velocity")


def test_06_deis_goes_to_data():
    for steps in FEW:
        assert reaches("deis", VP, nodes_of("karras", VP, steps), "eps")
        assert reaches("deis", FLOW, nodes_of("trailing", FLOW, steps), "velocity")
    errors = [missed("deis", FLOW, nodes_of("trailing", FLOW, n), "velocity")
              for n in (40, 80)]  # fmt: skip
    assert log2(errors[0] / errors[1]) > 1.8


@pytest.mark.parametrize("spacing", [name for name in SPACINGS if name != "leading"])
def test_07_one_step_begins_at_noise(spacing: str):
    nodes = nodes_of(spacing, VP, 1)
    assert len(nodes) == 2 and nodes[0].rho == VP.start and nodes[0].time == 999
    x = begin_at(nodes[0])
    end = solve(GAUSSIAN, table_of("euler", VP, nodes, "eps"), "eps", x)
    x0, last = GAUSSIAN.x0(x, nodes[0]), nodes[-1]
    eps = (x - nodes[0].alpha * x0) / nodes[0].sigma
    torch.testing.assert_close(end, last.alpha * x0 + last.sigma * eps)


def test_08_the_range_is_the_trained_one_for_every_length():
    for spacing, path, steps in itertools.product(("karras", "exponential"), (VP, VE), FEW[1:]):
        nodes = nodes_of(spacing, path, steps)
        assert nodes[0].rho == path.start and nodes[-2].rho == path.end


@pytest.mark.parametrize("shift", [1.0, 3.0, 6.0])
def test_09_a_shift_is_applied_once_and_no_step_is_wasted(shift: float):
    for steps in (1, 2, 4, 28, 50):
        nodes = nodes_of("trailing", FLOW, steps, shift=shift)
        for i, node in enumerate(nodes):
            t = (steps - i) / steps
            assert node.sigma == pytest.approx(shift * t / (1 + (shift - 1) * t), abs=1e-12)
        assert nodes[-2].sigma >= 1 / steps - 1e-12  # the last step is as long as others


def test_10_a_node_is_told_its_own_time_to_the_last_digit():
    for path, spacing in ((VP, "exponential"), (VP, "karras"), (VP, "beta"), (FLOW, "beta")):
        for node in nodes_of(spacing, path, 37)[:-1]:
            own = node.time / 1000 if path is FLOW else node.time
            assert path.at(own).rho == pytest.approx(node.rho, rel=1e-9)
    assert any(node.time % 1 for node in nodes_of("exponential", VP, 37))
    assert missed("unipc", FLOW, nodes_of("trailing", FLOW, 320), "velocity") < 3e-5


def test_11_deis_3_falls_in_float32_too():
    found = {}
    for steps in (40, 80, 160, 320):
        nodes = nodes_of("karras", VP, steps)[:-1]
        table, x = table_of("deis-3", VP, nodes, "eps"), begin_at(nodes[0]).float()
        right, state = GAUSSIAN.solution(x.double(), nodes[0], nodes[-1]), begin(x)
        for node, by in zip(table.nodes, table.coefficients(x), strict=True):
            state = step(state, GAUSSIAN.says("eps", state.x.double(), node).float(), by)
        found[steps] = float((state.x - right).abs().max())
    assert found[80] < found[40] / 5 and max(found[160], found[320]) < 1e-5


def test_12_the_third_order_is_there_with_noise_and_without():
    assert log2(error("exp-ab3", 128) / error("exp-ab3", 256)) > 2.8
    assert log2(error("dpmpp-3m", 128) / error("dpmpp-3m", 256)) == pytest.approx(2, abs=0.1)
    for name in ("exp-ab2-sde", "exp-ab3-sde"):
        assert log2(variance_error(name, 100) / variance_error(name, 200)) > 1.9
    assert variance_error("exp-ab3-sde", 100) < variance_error("exp-ab2-sde", 100) / 5


def test_14_noise_alone_is_refused_for_a_network_that_says_noise_and_right_for_v():
    for steps, name in itertools.product(FEW, ("euler", "euler-ancestral", "dpmpp-2m", "unipc")):
        nodes = nodes_of("trailing", ZERO, steps)
        assert nodes[0].rho == inf and nodes[0].alpha == 0
        for prediction in ("eps", "score", edm()):
            with pytest.raises(InvalidValue, match="noise alone"):
                table_of(name, ZERO, nodes, prediction)
        noises = [torch.ones_like(DRAWN)] * steps
        end = solve(POINT, table_of(name, ZERO, nodes, "v"), "v", begin_at(nodes[0]), noises)
        torch.testing.assert_close(end, POINT.mean, rtol=0, atol=1e-9)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_15_min_snr_weighs_no_signal(prediction: str):
    at = at_rhos(ZERO, torch.tensor([inf, 1e6, 1.0]))
    found = weights(Weight(kind="min-snr"), prediction, at)
    assert found.isfinite().all() and (prediction != "eps" or found[0] == 1)


def test_17_pndm_of_every_length():
    for steps in FEW:
        assert reaches("pndm", VP, nodes_of("trailing", VP, steps), "eps")
        assert reaches("pndm", VP, nodes_of("leading", VP, steps, offset=1), "eps")


def test_18_nothing_is_ignored():
    for name in SPACINGS:
        with pytest.raises(InvalidValue, match="no option 'timestep_spacing'"):
            nodes_of(name, VP, 10, timestep_spacing="leading")
    nodes = nodes_of("karras", VP, 10)
    for name in SOLVERS:
        with pytest.raises(InvalidValue, match="no option 'clip'"):
            table_of(name, VP, nodes, "eps", clip=1.0)
    with pytest.raises(InvalidValue, match="no option 'first'"):
        nodes_of("trailing", VP, 10, first=5.0)
    with pytest.raises(InvalidValue, match="shift"):
        nodes_of("trailing", VP, 10, shift=3.0)


def test_19_the_way_ends_at_data_unless_the_trained_end_is_asked_for():
    for spacing in ("trailing", "leading", "linspace"):
        options = {"offset": 1} if spacing == "leading" else {}
        nodes = nodes_of(spacing, VP, 10, **options)
        kept = nodes_of(spacing, VP, 10, ends="trained", **options)
        assert nodes[-1].sigma == 0 and kept[-1].rho == VP.end == pytest.approx(0.0292, rel=1e-2)
        for name in ("tcd", "pndm", "euler", "dpmpp-2m"):
            noises = [torch.ones_like(DRAWN)] * 11
            x = begin_at(nodes[0])
            end = solve(POINT, table_of(name, VP, nodes, "eps"), "eps", x, noises)
            torch.testing.assert_close(end, POINT.mean, rtol=0, atol=1e-9)


def test_20_only_leading_leaves_noise_out():
    for steps in (4, 10, 50):
        for spacing in SPACINGS:
            first = nodes_of(spacing, VP, steps)[0]
            whole = (first.rho, first.time) == (VP.start, 999)
            assert whole == (spacing != "leading")
    alphas = [nodes_of("leading", VP, steps, offset=1)[0].alpha for steps in (4, 10, 50)]
    assert alphas == pytest.approx([0.236, 0.118, 0.076], abs=1e-3)


def test_21_churn_leaves_the_noise_of_the_step_s_end():
    """Data of one point: what is not data is noise of exactly the node's width."""
    table = table_of("edm-stochastic", VE, nodes_of("karras", VE, 20), "eps",
                     low=0.0, high=80.0, inflate=1.0)  # fmt: skip
    draws = np.flatnonzero(table.noisy)
    x = torch.zeros(1 + len(draws), 1, dtype=torch.float64)
    x[0] = 80.0
    state, zero = begin(x), Gaussian(torch.zeros(1).double(), torch.zeros(1).double())
    for i, (node, by) in enumerate(zip(table.nodes, table.coefficients(x), strict=True)):
        noise = torch.zeros_like(x)
        noise[1:][draws == i] = 1.0
        state = step(state, zero.says("eps", state.x, node), by, noise)
        if (after := table.after[i]) is not None:
            assert float(state.x.square().sum().sqrt()) == pytest.approx(after.rho, abs=1e-9)


def test_22_no_noise_is_left_on_the_picture():
    for spacing, path, prediction in (
        ("trailing", VP, "eps"),
        ("leading", VP, "v"),
        ("karras", VE, "x0"),
        ("trailing", FLOW, "velocity"),
    ):
        for name in SOLVERS:
            try:
                table = table_of(name, path, nodes_of(spacing, path, 10), prediction)
            except InvalidValue:
                continue
            last = table.after[-1]
            assert last and last.sigma == 0 and table.rows[-1, N] == 0


def test_23_beta_is_over_times():
    """Lee et al., 2024: the quantiles are of the time, on every path that has one."""
    for path in (VP, FLOW, ZERO):
        nodes = nodes_of("beta", path, 9, a=1.0, b=1.0)
        shares = [node.time / (1000 if path is FLOW else path.last) for node in nodes[:-1]]
        assert shares == pytest.approx([1 - i / 9 for i in range(9)])
