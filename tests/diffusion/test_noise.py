"""Noise that knows its seed alone."""

from __future__ import annotations

import torch

from diptych.diffusion.noise import first_noise, step_noise


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
