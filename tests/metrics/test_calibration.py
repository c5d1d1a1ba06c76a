"""Calibration on data whose truth is known."""

from __future__ import annotations

import random
from math import exp, log

import pytest

from diptych.metrics.calibration import expected_calibration_error, platt


def _drawn(slope: float, offset: float, n: int, seed: int) -> tuple[list[float], list[bool]]:
    draw = random.Random(seed)
    scores = [draw.uniform(0.02, 0.98) for _ in range(n)]
    truth = [1 / (1 + exp(-(slope * log(s / (1 - s)) + offset))) for s in scores]
    return scores, [draw.random() < p for p in truth]


def test_the_true_slope_and_offset_are_found():
    assert platt(*_drawn(1.7, -0.6, 40_000, 0)) == pytest.approx((1.7, -0.6), abs=0.06)


def test_where_all_are_right_it_stays_finite():
    slope, offset = platt([0.9, 0.95, 0.99], [True] * 3)
    assert abs(slope) < 100 and abs(offset) < 100


def test_a_calibrated_score_has_no_error_and_a_boastful_one_has():
    scores, right = _drawn(1.0, 0.0, 40_000, 1)
    assert expected_calibration_error(scores, right) < 0.01
    assert expected_calibration_error([0.99] * len(right), right) > 0.4
