"""The perfect denoisers against quadrature, against each other, and through a table."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.exact import Exact, Gaussian, Mixture, Point, solve
from diptych.diffusion.kernel import WIDTH, A, C, D, N, P, Q, Table, X
from diptych.diffusion.paths import FlowPath, Node, VarianceExploding, VariancePreserving
from diptych.diffusion.predictions import to_x0

FLOW, VE = FlowPath(), VarianceExploding()
VP = VariancePreserving(tuple(map(float, np.exp(np.linspace(-4, 4, 101)))))
NODES = [FLOW.at(0.3), FLOW.at(1.0), VP.node(0.05), VP.node(7.0), VE.node(2.0)]


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


GAUSSIAN = Gaussian(f64(0.3, -1.2, 2.0), f64(1.0, 0.25, 0.05))
MIXTURE = Mixture(
    f64(0.3, 0.7),
    torch.stack([f64(-1.0, 0.5, 2.0), f64(1.5, -0.2, 0.4)]),
    torch.stack([f64(0.2, 1.0, 0.5), f64(0.6, 0.1, 2.0)]),
)
X0 = torch.stack([f64(0.4, -1.1, 0.7), f64(-2.0, 0.3, 1.9), f64(0.0, 0.0, 0.0)])


def by_quadrature(weights: Tensor, means: Tensor, variances: Tensor, x: float, node: Node):
    """(posterior mean, density) in one dimension: Gauss-Hermite over each component's data."""
    points, shares = np.polynomial.hermite_e.hermegauss(180)
    data = means[:, None].numpy() + np.sqrt(variances[:, None].numpy()) * points
    prior = weights[:, None].numpy() * shares / shares.sum()
    noise = (x - node.alpha * data) / node.sigma
    joint = prior * np.exp(-0.5 * noise**2) / (node.sigma * sqrt(2 * np.pi))
    return float((joint * data).sum() / joint.sum()), float(joint.sum())


@pytest.mark.parametrize("node", [FLOW.at(0.5), FLOW.at(0.9), VP.node(0.7), VE.node(2.0)])
@pytest.mark.parametrize("x", [-1.3, 0.2, 2.4])
def test_the_denoiser_is_the_posterior_mean(node: Node, x: float):
    weights, means, variances = f64(0.3, 0.7), f64(-1.0, 1.5), f64(0.2, 0.6)
    data = Mixture(weights, means[:, None], variances[:, None])
    mean, density = by_quadrature(weights, means, variances, x, node)
    assert float(data.x0(f64(x)[None], node)) == pytest.approx(mean, abs=1e-9)
    assert float(data.log_density(f64(x)[None], node).exp()) == pytest.approx(density, rel=1e-9)
    one = by_quadrature(f64(1.0), means[:1], variances[:1], x, node)
    gaussian = Gaussian(means[:1], variances[:1])
    assert float(gaussian.x0(f64(x)[None], node)) == pytest.approx(one[0], abs=1e-9)
    assert float(gaussian.log_density(f64(x)[None], node).exp()) == pytest.approx(one[1], rel=1e-9)


@pytest.mark.parametrize("node", NODES)
def test_a_mixture_of_one_kind_is_the_gaussian(node: Node):
    twice = Mixture(f64(0.4, 0.6), GAUSSIAN.mean.repeat(2, 1), GAUSSIAN.variance.repeat(2, 1))
    for prediction in ("x0", "eps", "v", "velocity", "score"):
        torch.testing.assert_close(
            twice.says(prediction, X0, node), GAUSSIAN.says(prediction, X0, node)
        )
    torch.testing.assert_close(twice.log_density(X0, node), GAUSSIAN.log_density(X0, node))


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("data", [GAUSSIAN, MIXTURE, Point(f64(0.3, -1.2, 2.0))])
def test_the_score_is_the_gradient_and_agrees_with_x0(data: Gaussian | Mixture, node: Node):
    x = X0.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(data.log_density(x, node).sum(), x)
    torch.testing.assert_close(data.score(X0, node), gradient)
    x0, eps = data.x0(X0, node), data.says("eps", X0, node)
    torch.testing.assert_close(node.alpha * x0 + node.sigma * eps, X0)


@pytest.mark.parametrize("data", [GAUSSIAN, MIXTURE])
def test_what_is_said_means_what_the_package_reads_in_it(data: Gaussian | Mixture):
    for prediction, node in [
        *[(p, n) for p in ("eps", "v") for n in (VP.node(0.05), VP.node(7.0))],
        ("velocity", FLOW.at(0.3)), ("velocity", FLOW.at(1.0)), ("x0", VE.node(2.0)),
    ]:  # fmt: skip
        p, q = to_x0(prediction, node)
        read = p * X0 + q * data.says(prediction, X0, node)
        torch.testing.assert_close(read, data.x0(X0, node))


def test_the_solution_follows_the_flow_both_ways():
    """dx/dt of the path is the velocity: central differences of the closed form."""
    at, width = FLOW.at(0.4), 1e-5
    ahead = GAUSSIAN.solution(X0, at, FLOW.at(0.4 + width))
    behind = GAUSSIAN.solution(X0, at, FLOW.at(0.4 - width))
    slope = (ahead - behind) / (2 * width)
    torch.testing.assert_close(slope, GAUSSIAN.says("velocity", X0, at), rtol=1e-8, atol=1e-8)
    there = GAUSSIAN.solution(X0, VP.node(7.0), VP.node(0.05))
    torch.testing.assert_close(GAUSSIAN.solution(there, VP.node(0.05), VP.node(7.0)), X0)


def test_a_point_has_no_density_at_data():
    point = Point(f64(0.3, -1.2, 2.0))
    torch.testing.assert_close(point.x0(X0, VE.node(0.0)), point.mean.expand_as(X0))
    with pytest.raises(ValueError, match="no density"):
        point.says("eps", X0, VE.node(0.0))
    with pytest.raises(KeyError):
        point.says("noise", X0, VE.node(1.0))


def information(data: Exact, points: Tensor, shares: Tensor, levels: Tensor) -> Tensor:
    """Half the integral over the signal-to-noise ratio of the squared error of the denoiser, by
    the trapezoid in lambda and in the noise, for data at `points` [K, D] with `shares` [K]."""
    noise = torch.linspace(-9, 9, 721, dtype=torch.float64)[:, None]
    chance = torch.exp(-(noise[:, 0] ** 2) / 2) / sqrt(2 * np.pi) * (noise[1, 0] - noise[0, 0])
    total = torch.zeros((), dtype=torch.float64)
    for level in levels:
        rho = float(torch.exp(-level))
        node = Node(rho, 1 / sqrt(1 + rho**2), rho / sqrt(1 + rho**2), 0.0)
        x = node.alpha * points + node.sigma * noise[:, None]  # [noise, K, D]
        error = (data.x0(x.flatten(0, 1), node).view_as(x) - points).square()
        end = 0.5 if level in (levels[0], levels[-1]) else 1.0
        total += end * (chance[:, None, None] * shares[:, None] * error).sum() / rho**2
    return total * (levels[1] - levels[0])  # half of dSNR is SNR dlambda


def test_information_and_error_of_four_points():
    """I-MMSE (Guo et al., 2005): over all levels the error of the best denoiser is the entropy of
    the data, here ln 4 nats."""
    points = f64(-1.5, -0.2, 0.4, 1.9)[:, None]
    quarter = torch.full((4,), 0.25, dtype=torch.float64)
    levels = torch.linspace(-18, 4.5, 451, dtype=torch.float64)
    found = information(Mixture(quarter, points, 0 * points), points, quarter, levels)
    assert float(found) == pytest.approx(log(4), abs=1e-10) == 1.386294361119


def test_information_and_error_of_a_gaussian():
    """Half the integral from snr0 to snr1 is half the sum of ln((1 + snr1 S) / (1 + snr0 S))."""
    grid, shares = np.polynomial.hermite_e.hermegauss(3)  # exact: the error is a square
    points = GAUSSIAN.mean + torch.from_numpy(grid)[:, None] * GAUSSIAN.variance.sqrt()
    levels = torch.linspace(-3, 3, 1201, dtype=torch.float64)
    weights = torch.from_numpy(shares / shares.sum())
    coarse = information(GAUSSIAN, points, weights, levels[::2])
    found = (4 * information(GAUSSIAN, points, weights, levels) - coarse) / 3  # Richardson
    snr0, snr1 = torch.exp(2 * levels[0]), torch.exp(2 * levels[-1])
    ratio = (1 + snr1 * GAUSSIAN.variance) / (1 + snr0 * GAUSSIAN.variance)
    assert float(found) == pytest.approx(float(ratio.log().sum()) / 2, abs=1e-10)


def first_order(nodes: list[Node], noise: float = 0.0) -> Table:
    """DDIM on x0, written by hand; `noise` is added after each evaluation."""
    rows = np.zeros((len(nodes) - 1, WIDTH))
    for row, s, t in zip(rows, nodes, nodes[1:], strict=False):
        row[P], row[Q], row[D], row[N] = 0.0, 1.0, 1.0, noise
        row[X] = t.sigma / s.sigma
        row[C[0]] = t.alpha - row[X] * s.alpha
    assert not rows[:, A].any()
    return Table(rows, tuple(nodes[:-1]), tuple(nodes[1:]), np.ones(len(rows)))


def test_a_table_is_run_step_by_step():
    nodes = [FLOW.at(t) for t in (1.0, 0.6, 0.2, 0.0)]
    mean = f64(0.3, -1.2, 2.0)
    reached = solve(Point(mean), first_order(nodes), "x0", X0)
    torch.testing.assert_close(reached, mean.expand_as(X0))
    errors = []
    for steps in (64, 128):
        nodes = [FLOW.at(t) for t in np.linspace(1.0, 0.0, steps + 1)]
        reached = solve(GAUSSIAN, first_order(nodes), "x0", X0)
        errors.append(float((reached - GAUSSIAN.solution(X0, nodes[0], nodes[-1])).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)
    noises = [torch.full_like(X0, float(i)) for i in range(3)]
    nodes = [FLOW.at(t) for t in (1.0, 0.6, 0.2, 0.0)]
    moved = solve(Point(mean), first_order(nodes, noise=1.0), "x0", X0, noises)
    torch.testing.assert_close(moved, mean.expand_as(X0) + 2.0)
    with pytest.raises(ValueError, match="noise"):
        solve(Point(mean), first_order(nodes, noise=1.0), "x0", X0)
