"""The interval of a share, against an independent implementation and by coverage."""

from __future__ import annotations

import random

import pytest

from diptych.metrics.share import Share


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(0, 10, 0.0, 0.27754), (5, 10, 0.23659, 0.76341), (96, 100, 0.90163, 0.98434)],
)
def test_the_interval_is_wilsons(right: int, n: int, low: float, high: float):
    value = Share(right, n).value()
    assert (value.low, value.high) == pytest.approx((low, high), abs=1e-4)
    assert value.value == right / n and value.n == n


def test_the_interval_holds_the_truth_nineteen_times_of_twenty():
    draw, truth, held = random.Random(0), 0.9, 0
    for _ in range(2000):
        value = Share().update(draw.random() < truth for _ in range(100)).value()
        held += value.low <= truth <= value.high
    assert 0.93 <= held / 2000 <= 0.98


def test_merging_is_counting_together():
    a, b = Share().update([True, False]), Share().update([True])
    assert a.merge(b) == b.merge(a) == Share().update([True, False, True])


def test_a_share_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="nothing"):
        Share().value()
