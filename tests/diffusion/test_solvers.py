"""Every solver against the exact solution: order, end point, independence of rows."""

from __future__ import annotations

import itertools
from math import log2

import numpy as np
import pytest
import torch
from gaussian import FLOW, MEAN, START, VP, said, solve

from benchmarks.solver_orders import error
from diptych.diffusion.kernel import begin, step
from diptych.diffusion.paths import scaled_linear_betas, vp_of_betas, zero_terminal
from diptych.diffusion.solvers import SOLVERS, table_of
from diptych.diffusion.spacings import even_levels, exponential, karras, shifted_times
from diptych.foundation.errors import InvalidValue, NotFound

QUIET = [name for name in SOLVERS if name not in ("euler-ancestral", "dpmpp-2m-sde")]
TOLERANCE = {"unipc-3": 0.15, "rk4": 0.1, "lms": 0.1, "deis": 0.1}


@pytest.mark.parametrize("name", QUIET)
def test_the_order_is_what_is_stated(name: str):
    halved = log2(error(name, 256) / error(name, 512))
    stated = SOLVERS[name].order
    # The error of its own kind hides behind a smaller one of order four here.
    assert abs(halved - stated) < TOLERANCE.get(name, 0.05) or (name == "exp-ab3" and halved > 2.8)


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
@pytest.mark.parametrize("name", QUIET)
def test_what_the_network_predicts_makes_no_difference(name: str, prediction: str):
    nodes = even_levels(VP, 12, -4, 4)
    one = solve(VP, table_of(name, VP, nodes, prediction), prediction, START)
    other = solve(VP, table_of(name, VP, nodes, "eps"), "eps", START)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


FINISHING = {
    "flow": (FLOW, "velocity", lambda n: shifted_times(FLOW, n, 3.0)),
    "karras": (VP, "eps", lambda n: karras(VP, n)),
    "exponential": (VP, "v", lambda n: exponential(VP, n)),
}


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10, 50])
@pytest.mark.parametrize("kind", FINISHING)
@pytest.mark.parametrize("name", QUIET)
def test_one_point_is_reached_exactly_or_refused(name: str, kind: str, steps: int):
    path, prediction, nodes = FINISHING[kind]
    try:
        table = table_of(name, path, nodes(steps), prediction)
    except InvalidValue as refusal:
        assert name == "deis" and kind == "flow" and "noise alone" in str(refusal)
        return
    end = solve(path, table, prediction, START, spread=torch.zeros_like(MEAN))
    torch.testing.assert_close(end, MEAN, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", SOLVERS)
def test_rows_of_all_solvers_share_a_batch(name: str):
    """A row beside others of other solvers and lengths has the bits that it has alone."""
    others = ((9, name), (12, "unipc-3"), (7, "rk4"), (10, "exp-ab3"))
    tables = [table_of(other, VP, even_levels(VP, n, -4, 4), "eps") for n, other in others]
    mixed = begin(START.repeat(4, 1) * torch.tensor([[1.0], [0.5], [2.0], [-1.0]]).double())
    alone = begin(mixed.x[:1])
    draw = torch.Generator().manual_seed(0)
    for i in range(min(map(len, tables))):
        out = torch.cat(
            [
                said("eps", mixed.x[k : k + 1], VP.at(float(t.times[i])))
                for k, t in enumerate(tables)
            ]
        )
        noise = torch.randn(mixed.x.shape, generator=draw, dtype=torch.float64)
        mixed = step(mixed, out, np.stack([t.rows[i] for t in tables]), noise)
        alone = step(alone, said("eps", alone.x, VP.at(float(tables[0].times[i]))),
                     tables[0].rows[i][None], noise[:1])  # fmt: skip
        assert torch.equal(mixed.x[:1], alone.x)


def test_fresh_noise_keeps_the_variance():
    """Each step of DDIM is affine for a point: what noise leaves must be sigma squared."""
    nodes = even_levels(VP, 8, -4, 4)
    for name in ("euler-ancestral", "dpmpp-2m-sde"):
        variance = nodes[0].sigma ** 2
        for row, t in zip(table_of(name, VP, nodes, "x0").rows, nodes[1:], strict=True):
            variance = variance * row[3] ** 2 + row[8] ** 2
            assert variance == pytest.approx(t.sigma**2, rel=1e-9)


def test_noise_that_is_needed_is_asked_for():
    table = table_of("euler-ancestral", VP, even_levels(VP, 4, -4, 4), "eps")
    with pytest.raises(ValueError, match="noise"):
        step(begin(START), START, table.rows[:1])


def test_noise_alone_is_refused_where_it_says_nothing():
    path = zero_terminal(vp_of_betas(scaled_linear_betas()))
    nodes = [path.at(999), path.at(500), path.node(0.0)]
    with pytest.raises(InvalidValue, match="noise alone"):
        table_of("euler", path, nodes, "eps")
    assert np.isfinite(table_of("euler", path, nodes, "v").rows).all()


@pytest.mark.parametrize("steps", range(1, 120))
def test_every_length_ends_at_data(steps: int):
    for nodes in (shifted_times(FLOW, steps, 3.0), karras(VP, steps), exponential(VP, steps)):
        assert len(nodes) == steps + 1 and nodes[-1].rho == 0 and nodes[-1].alpha == 1
        assert all(a.rho > b.rho for a, b in itertools.pairwise(nodes))


def test_an_unknown_solver_is_refused_with_the_nearest():
    with pytest.raises(NotFound, match="dpmpp-2m"):
        table_of("dpmpp2m", VP, even_levels(VP, 4, -4, 4), "eps")
