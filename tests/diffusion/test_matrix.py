"""Solver x path x spacing x steps: the right end, or a clear word at construction.

All data is one point, which a right solver returns in any number of steps, with noise or without.
"""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
import torch

from benchmarks.exact import Point, solve
from diptych.diffusion.kernel import N
from diptych.diffusion.paths import (
    ContinuousVP,
    FlowPath,
    Path,
    VarianceExploding,
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
    sigmoid_betas,
    vp_of_betas,
    zero_terminal,
)
from diptych.diffusion.solvers import SOLVERS, table_of
from diptych.diffusion.spacings import SPACINGS, nodes_of
from diptych.foundation.errors import InvalidValue

LATENT = vp_of_betas(scaled_linear_betas())
PATHS: dict[str, tuple[Path, str]] = {
    "flow": (FlowPath(), "velocity"),
    "scaled-linear": (LATENT, "eps"),
    "zero-terminal": (zero_terminal(LATENT), "v"),
    "edm": (VarianceExploding(), "x0"),
    "linear": (vp_of_betas(linear_betas()), "v"),
    "cosine": (vp_of_betas(cosine_betas()), "v"),
    "sigmoid": (vp_of_betas(sigmoid_betas()), "score"),
    "vp-sde": (ContinuousVP(), "eps"),
    "sub-vp-sde": (ContinuousVP(sub=True), "score"),
}
FEW = ("flow", "scaled-linear", "zero-terminal", "edm")
MEAN = torch.tensor([[0.7, -1.2, 0.0]], dtype=torch.float64)
START = torch.tensor([[0.3, -0.4, 1.1]], dtype=torch.float64)


def check(name: str, path: Path, prediction: str, spacing: str, steps: int) -> bool:
    """Whether the combination is offered; if it is, it must end where it should."""
    try:
        nodes = nodes_of(spacing, path, steps)
        table = table_of(name, path, nodes, prediction)
    except InvalidValue as refusal:
        assert len(str(refusal)) > 30 and refusal.do
        return False
    assert np.isfinite(table.rows).all() and table.after[-1] is nodes[-1]
    first, last = table.nodes[0], nodes[-1]
    assert last.rho == (path.end if spacing == "log-snr" else 0.0)
    draw = torch.Generator().manual_seed(steps)
    noises = [torch.randn(1, 3, generator=draw, dtype=torch.float64) for _ in range(len(table))]
    x = first.alpha * MEAN + first.sigma * START
    end = solve(Point(MEAN), table, prediction, x, noises)
    left = (end - last.alpha * MEAN).abs().max()
    # In y = x / alpha the way begins at rho: float64 leaves a share of that.
    rounding = max(1e-6, 1e-8 * first.rho) if first.rho < inf else 1e-6
    # LCM's boundary lets a little of its noisy input through, as its students were trained to.
    skip = 0.25 / ((10 * table.nodes[-1].time) ** 2 + 0.25)
    leak = 0.05 + 6 * skip if name == "lcm" else rounding
    if last.rho and name == "langevin":
        return True  # it follows the list slowly and has not arrived after few steps
    noise = float(table.rows[-1, N])  # where it ends short of data, with the noise of its step
    assert left <= max(leak, 6 * last.sigma, 6 * noise), (name, spacing, steps, end)
    return True


@pytest.mark.parametrize("kind", FEW)
@pytest.mark.parametrize("name", SOLVERS)
def test_the_end_is_right_or_refused(name: str, kind: str):
    path, prediction = PATHS[kind]
    offered = [check(name, path, prediction, spacing, steps)
               for spacing in SPACINGS for steps in (1, 2, 3, 10)]  # fmt: skip
    assert any(offered) != ((name, kind) in NEVER)


# Combinations that no spacing makes possible.
NEVER = {("lcm", kind) for kind in ("flow", "edm", "vp-sde", "sub-vp-sde")}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("name", SOLVERS)
def test_the_whole_matrix(name: str, kind: str):
    path, prediction = PATHS[kind]
    for spacing in SPACINGS:
        for steps in (1, 2, 3, 4, 10, 50, 200):
            check(name, path, prediction, spacing, steps)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_flow_with_a_range_of_its_own(name: str):
    """Karras and exponential lists on a flow, which has no range, over one that is given."""
    flow = FlowPath()
    for spacing in ("karras", "exponential"):
        nodes = nodes_of(spacing, flow, 6, first=50.0, last=0.02)
        assert nodes[0].rho == pytest.approx(50) and nodes[-2].rho == pytest.approx(0.02)
        try:
            table = table_of(name, flow, nodes, "velocity")
        except InvalidValue:
            assert name == "lcm"
            continue
        noises = [torch.zeros(1, 3).double()] * len(table)
        x = nodes[0].alpha * MEAN + nodes[0].sigma * START
        end = solve(Point(MEAN), table, "velocity", x, noises)
        torch.testing.assert_close(end, MEAN, rtol=0, atol=1e-9)


def test_noise_alone_is_refused_where_it_says_nothing():
    path = zero_terminal(LATENT)
    assert path.start == inf
    nodes = [path.at(999), path.at(500), path.node(0.0)]
    for prediction in ("eps", "score", "edm"):
        with pytest.raises(InvalidValue, match="picture at noise alone"):
            table_of("euler", path, nodes, prediction)
    assert np.isfinite(table_of("euler", path, nodes, "v").rows).all()
