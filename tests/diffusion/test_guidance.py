"""Guidance by sums of passes, and its flow against the closed form on Gaussian data."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import inf

import numpy as np
import pytest
import torch
from answers import DATA, FLOW, VP, C, Said, U, V, W, drawn, of_x0, one, x0_of
from torch import Tensor

from diptych.diffusion.guidance import (
    Guidance,
    autoguidance,
    classifier_free,
    composed,
    guided,
    passes,
    perturbed,
    toward,
    two_condition,
)
from diptych.diffusion.paths import FlowPath, Node
from diptych.diffusion.predictions import to_x0


def test_a_weight_of_one_is_the_conditional_and_of_nought_the_other_and_one_pass_is_enough():
    for weight, name, answer in ((1.0, "conditional", C), (0.0, "unconditional", U)):
        network = Said(conditional=C, unconditional=U)
        assert torch.equal(one(classifier_free(weight), network), answer)
        assert network.names == [name]


def test_terms_are_what_their_papers_say():
    network = Said(
        conditional=C, unconditional=U, weak=W, perturbed=V, image=V, conditional_1=C,
        conditional_2=W,
    )  # fmt: skip
    for guidance, wanted in {
        classifier_free(7.5): U + 7.5 * (C - U),
        autoguidance(2.0): W + 2 * (C - W),
        classifier_free(4.0) + perturbed(3.0): U + 4 * (C - U) + 3 * (C - V),
        two_condition(7.5, 1.5): U + 7.5 * (C - V) + 1.5 * (V - U),
        composed([2.0, -0.5]): U + 2 * (C - U) - 0.5 * (W - U),
    }.items():
        torch.testing.assert_close(one(guidance, network), wanted, rtol=1e-13, atol=1e-13)


def test_passes_that_cancel_are_not_asked_for():
    assert passes(two_condition(1, 1), FLOW) == {"conditional": 1}
    assert set(passes(two_condition(7.5, 1), FLOW)) == {"conditional", "image"}
    assert passes(composed([1.0, 0.0]), FLOW) == {"conditional-1": 1}
    assert 1 - 0.7 - 0.2 - 0.1 != 0  # in floating point
    assert "unconditional" not in passes(composed([0.7, 0.2, 0.1]), FLOW)
    assert passes(Guidance(told=3.5), FLOW) == {"conditional": 1}
    network = Said(conditional=C, unconditional=U, image=V)
    assert torch.equal(one(two_condition(1, 1), network), C)


def test_an_interval_is_in_sigma_with_both_ends_and_outside_it_one_pass_is_asked():
    network, path = Said(conditional=C, unconditional=U), FlowPath()
    nodes = [path.at(t) for t in (1.0, 0.75, 0.5, 0.25, 0.125)]
    row = classifier_free(5.0, (0.25, 0.75))
    out = [one(row, network, node) for node in nodes]
    assert len(network.asked) == 5 + 3
    assert torch.equal(out[0], C) and torch.equal(out[4], C) and not torch.equal(out[3], C)
    for make in (autoguidance, perturbed, lambda w, part: two_condition(w, 2.0, part)):
        counts = [len(passes(make(3.0, (0.25, 0.75)), node)) for node in nodes]
        assert counts[0] == counts[4] == 1 and min(counts[1:4]) >= 2
    both = row + classifier_free(2.0, (0.8, inf))
    assert passes(both, nodes[0]) == {"conditional": 2.0, "unconditional": -1.0}


def test_a_weight_that_fades_with_the_time_of_the_network():
    row = perturbed(3.0, fade=0.01)
    for time, left in ((1000.0, 3.0), (900.0, 2.0), (700.0, 0.0), (10.0, 0.0)):
        got = passes(row, replace(VP, time=time))
        assert got.get("perturbed", 0.0) == pytest.approx(-left)
        assert (len(got) == 1) == (left == 0)
    assert passes(perturbed(3.0, fade=2, start=1.0), replace(FLOW, time=0.25))["perturbed"] == -1.5


@pytest.mark.parametrize("prediction", ["eps", "v", "x0", "velocity"])
def test_guidance_is_the_same_whatever_is_predicted(prediction: str):
    node = FLOW if prediction == "velocity" else VP
    x = drawn(6, 4)

    def ask(asked: Tensor, rows: list[int], names: list[str]) -> Tensor:
        x0 = [x0_of(a, node, *DATA[name]) for a, name in zip(asked, names, strict=True)]
        return of_x0(prediction, asked, torch.stack(x0), node)

    out, _ = guided(ask, x, [classifier_free(3.0)] * 6, [node] * 6, prediction)
    p, q = to_x0(prediction, node)
    c, u = (x0_of(x, node, *DATA[name]) for name in ("conditional", "unconditional"))
    torch.testing.assert_close(p * x + q * out, u + 3 * (c - u), rtol=1e-12, atol=1e-12)


def closed_form(x: np.ndarray, start: float, weight: float) -> np.ndarray:
    """The guided flow of two Gaussians from rho = start to 0: x / Phi is an integral."""
    (mu_u, s_u), (mu_c, s_c) = DATA["unconditional"], DATA["conditional"]

    def phi(r: np.ndarray) -> np.ndarray:
        return (s_u + r * r) ** ((1 - weight) / 2) * (s_c + r * r) ** (weight / 2)

    points, shares = np.polynomial.legendre.leggauss(200)
    r = start * ((points + 1) / 2) ** 3  # dense near 0, where the integrand lives
    measure = shares / 2 * 3 * start * ((points + 1) / 2) ** 2
    pull = (1 - weight) * mu_u / (s_u + r * r) + weight * mu_c / (s_c + r * r)
    integral = (measure * r * pull / phi(r)).sum()
    return phi(np.array(0.0)) * (x / phi(np.array(start)) + integral)


def integrated(x: Tensor, start: float, weight: float, steps: int) -> Tensor:
    """dx / d rho = guided noise by the classical Runge-Kutta method, rho = start s^3."""
    row = classifier_free(weight)

    def ask(asked: Tensor, rows: list[int], names: list[str]) -> Tensor:
        pairs = zip(asked, names, strict=True)
        return torch.stack([rho * (a - DATA[n][0]) / (DATA[n][1] + rho**2) for a, n in pairs])

    def slope(s: float, at: Tensor) -> Tensor:
        nonlocal rho
        rho = start * s**3
        node = Node(rho, 1.0, rho, 0.0)
        return 3 * start * s**2 * guided(ask, at, [row] * len(at), [node] * len(at), "eps")[0]

    rho = start
    for a, b in pairwise(np.linspace(1, 0, steps + 1)):
        h, m = b - a, (a + b) / 2
        k1 = slope(a, x)
        k2 = slope(m, x + h / 2 * k1)
        k3 = slope(m, x + h / 2 * k2)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(b, x + h * k3))
    return x


def test_the_guided_flow_of_two_gaussians_is_the_closed_form_and_not_the_tilted_density():
    start, weight = 300.0, 3.0
    x = torch.tensor([0.0, start, -start], dtype=torch.float64)
    wanted = torch.from_numpy(closed_form(x.numpy(), start, weight))
    errors = [float((integrated(x, start, weight, n) - wanted).abs().max()) for n in (64, 128, 256)]
    assert errors[2] < 1e-6 and all(14 < a / b < 18 for a, b in pairwise(errors))
    mean, variance = float(wanted[0]), float((wanted[1] - wanted[0]) ** 2)
    # 9 / 4 and 1 / 16 in the limit of an infinite start.
    assert mean == pytest.approx(2.25, abs=0.005) and variance == pytest.approx(0.0625, rel=1e-3)
    # p_u^(1 - w) p_c^w, what guidance is often said to sample from.
    precision = (1 - weight) / 4 + weight / 1
    tilted = (weight * 1.5 / precision, 1 / precision)
    assert tilted == pytest.approx((1.8, 0.4)) and abs(mean - 1.8) > 0.4 and variance < 0.1


@pytest.mark.parametrize("prediction", ["eps", "v", "x0", "velocity"])
def test_classifier_guidance_with_the_exact_gradient_is_the_exact_posterior(prediction: str):
    """y = x0 + noise of variance 0.3: what is known of x0 given x and y is Gaussian again."""
    node = FLOW if prediction == "velocity" else VP
    (mean, s), r, y = DATA["conditional"], 0.3, 2.2
    x, total = drawn(7, 3), node.alpha**2 * s + node.sigma**2
    x0, left = x0_of(x, node, mean, s), node.sigma**2 * s / total
    gradient = node.alpha * s / total * (y - x0) / (r + left)
    out = toward(of_x0(prediction, x, x0, node), gradient, 1.0, node, prediction)
    p, q = to_x0(prediction, node)
    posterior = x0_of(x, node, mean + s / (s + r) * (y - mean), s * r / (s + r))
    torch.testing.assert_close(p * x + q * out, posterior, rtol=1e-12, atol=1e-12)
    if prediction == "eps":
        half = toward(of_x0("eps", x, x0, node), gradient, 0.5, node, "eps")
        eps = of_x0("eps", x, x0, node)
        torch.testing.assert_close(half, eps - 0.5 * node.sigma * gradient)
