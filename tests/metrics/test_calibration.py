"""Calibration on data whose truth is known."""

from __future__ import annotations

import random
from math import exp, log

import numpy as np
import pytest

from diptych.metrics.calibration import (
    expected_calibration_error,
    isotonic,
    platt,
    risk_coverage,
    temperature,
)


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


def test_the_true_temperature_is_found():
    scores, right = _drawn(1 / 2.5, 0.0, 40_000, 2)
    assert temperature(scores, right) == pytest.approx(2.5, rel=0.05)
    assert 1e-3 <= temperature([0.9, 0.95, 0.99], [True] * 3) <= 1e3


def test_isotonic_rises_and_lowers_the_error_of_other_answers():
    scores, right = _drawn(0.4, 1.5, 40_000, 3)
    knots = isotonic(scores[::2], right[::2])
    at, values = [list(one) for one in zip(*knots, strict=True)]
    assert at == sorted(set(at)) and values == sorted(values)
    assert values[0] > 0 and values[-1] < 1
    tried = np.interp(scores[1::2], at, values)
    before = expected_calibration_error(scores[1::2], right[1::2])
    assert expected_calibration_error(list(tried), right[1::2]) < 0.02 < before / 10


def test_isotonic_is_the_nearest_rising_curve():
    """Each pool's value is its mean, and the residuals of every beginning sum to at least zero:
    the conditions of Kuhn and Tucker."""
    scores, right = _drawn(0.3, -0.2, 300, 4)
    scores = [round(score, 2) for score in scores]  # ties
    at, values = [list(one) for one in zip(*isotonic(scores, right), strict=True)]
    order = np.argsort(scores, kind="stable")
    left = np.asarray(right, float)[order] - np.interp(np.asarray(scores)[order], at, values)
    ends = np.flatnonzero(np.diff(np.asarray(scores)[order])).tolist()
    assert left.cumsum()[ends].min() > -1 and abs(left.sum()) < 1


def test_risk_falls_with_coverage_where_the_confidence_is_true():
    scores, right = _drawn(1.0, 0.0, 40_000, 5)
    points = risk_coverage(scores, right)
    coverages, risks, thresholds = zip(*points, strict=True)
    assert coverages == pytest.approx([k / 10 for k in range(1, 11)], abs=1e-3)
    assert list(risks) == sorted(risks) and list(thresholds) == sorted(thresholds, reverse=True)
    assert risks[-1] == pytest.approx(1 - sum(right) / len(right))
    assert risk_coverage([0.5] * 4, [True, False, True, True]) == [(1.0, 0.25, 0.5)]
