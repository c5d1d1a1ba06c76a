"""Noise that knows its seed alone, and the two-sided question."""

from __future__ import annotations

import torch

from diptych.diffusion.guidance import guided
from diptych.diffusion.noise import first_noise, step_noise


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


def test_noise_of_a_step_is_the_same_whoever_else_is_there():
    together = step_noise([5, 6, 7], 3, (3, 4, 4))
    assert torch.equal(together[2], step_noise([7], 3, (3, 4, 4))[0])
    others = [step_noise([7], 4, (3, 4, 4))[0], first_noise([7], (3, 4, 4))[0], together[1]]
    assert not any(torch.equal(together[2], other) for other in others)
