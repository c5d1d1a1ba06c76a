"""The path from noise to data, where the truth is known in closed form."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from diptych.diffusion.flow import euler_step, flow_nodes
from diptych.diffusion.guidance import guided
from diptych.diffusion.noise import first_noise
from diptych.foundation.errors import InvalidValue


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 1000])
@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_nodes_fall_from_one_to_nothing(steps: int, shift: float):
    nodes = flow_nodes(steps, shift)
    assert len(nodes) == steps + 1 and nodes[0] == 1 and nodes[-1] == 0
    assert all(a > b for a, b in pairwise(nodes))


def test_a_shift_moves_the_middle_towards_noise():
    assert flow_nodes(2, 3.0)[1] == pytest.approx(0.75)


@pytest.mark.parametrize(("steps", "shift"), [(0, 1.0), (1001, 1.0), (5, 0.0), (5, -1.0)])
def test_what_means_nothing_is_refused(steps: int, shift: float):
    with pytest.raises(InvalidValue):
        flow_nodes(steps, shift)


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_one_point_is_reached_exactly_in_any_number_of_steps(steps: int):
    """For data in one point x0 the velocity is (x - x0) / t, and its path is straight."""
    target = torch.tensor([[[[0.3]], [[-1.2]]]], dtype=torch.float64)
    x = first_noise([4], (2, 1, 1)).double()
    nodes = flow_nodes(steps, 2.0)
    for now, following in pairwise(nodes):
        x = euler_step(x, (x - target) / now, now, following)
    torch.testing.assert_close(x, target)


def test_euler_is_of_first_order_on_a_gaussian():
    """Data N(0, s^2): the ODE scales noise to s * noise; the error halves with the step."""
    spread, x1 = 0.5, 1.3

    def end(steps: int) -> float:
        x = torch.tensor(x1, dtype=torch.float64)
        nodes = flow_nodes(steps)
        for now, following in pairwise(nodes):
            variance = (1 - now) ** 2 * spread**2 + now**2
            velocity = x * (now - (1 - now) * spread**2) / variance
            x = euler_step(x, velocity, now, following)
        return float(x)

    errors = [abs(end(steps) - spread * x1) for steps in (64, 128, 256)]
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.05)


def test_guidance_one_is_the_conditional_and_nought_the_other():
    a, b = first_noise([1], (4,)), first_noise([2], (4,))
    assert torch.allclose(guided(a, b, 1.0), b) and torch.equal(guided(a, b, 0.0), a)
    torch.testing.assert_close(guided(a, b, 2.0), 2 * b - a)


def test_a_row_of_noise_knows_its_seed_and_not_its_neighbours():
    together = first_noise([5, 6, 7], (3, 4, 4))
    assert torch.equal(together[1], first_noise([6], (3, 4, 4))[0])
    assert not torch.equal(together[0], together[1])
    many = first_noise(range(200), (64,))
    assert abs(float(many.mean())) < 0.03 and abs(float(many.std()) - 1) < 0.03
