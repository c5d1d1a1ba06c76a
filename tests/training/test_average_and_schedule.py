"""The averaged weights against their closed form; the rate against what it promises."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import pytest
import torch
from torch import nn

from diptych.training.average import Average
from diptych.training.schedule import average_decay, rate_factor


def test_the_average_is_the_weighted_sum_it_stands_for():
    model = nn.Linear(3, 2).double()
    weights = torch.randn(41, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    model.weight.data.copy_(weights[0])
    average = Average(model, 0.8)
    for step in range(1, 41):
        model.weight.data.copy_(weights[step])
        average.update(step)

    decay = [min(0.8, (1 + s) / (10 + s)) for s in range(1, 41)]
    share = [prod(decay)] + [(1 - decay[i]) * prod(decay[i + 1 :]) for i in range(40)]
    assert sum(share) == pytest.approx(1)
    expected = (torch.tensor(share, dtype=torch.float64)[:, None, None] * weights).sum(0)
    torch.testing.assert_close(average.weights["weight"], expected, rtol=0, atol=1e-12)


def test_averaged_weights_are_in_use_only_inside():
    model = nn.Linear(2, 2)
    own = model.weight.detach().clone()
    average = Average(model, 0.5)
    average.weights["weight"].fill_(7.0)
    with pytest.raises(RuntimeError, match="inside"), average.applied():
        assert (model.weight == 7).all()
        raise RuntimeError("inside")
    assert torch.equal(model.weight, own)
    assert (average.weights["weight"] == 7).all()


def test_the_rate_rises_linearly_and_falls_to_its_end():
    rates = [rate_factor(s, steps=100, warmup=9, final_fraction=0.05) for s in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert all(a > b for a, b in pairwise(rates[9:]))
    assert rates[99] == pytest.approx(0.05)
    assert rates[54] == pytest.approx((1 + 0.05) / 2)  # half of the way down


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 5), (5, 5), (6, 5), (2, 0)])
def test_the_rate_of_short_runs_is_a_share(steps: int, warmup: int):
    for step in range(steps):
        assert 0 < rate_factor(step, steps=steps, warmup=warmup, final_fraction=0.01) <= 1


def test_the_decay_starts_low_and_stays_at_its_limit():
    assert average_decay(1, 0.999) == pytest.approx(2 / 11)
    assert average_decay(10**6, 0.999) == 0.999
