"""From scores to probabilities that mean what they say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def platt(scores: Sequence[float], right: Sequence[bool]) -> tuple[float, float]:
    """Slope and offset of sigmoid(slope * logit(score) + offset) of greatest likelihood.

    Platt's targets (1999) instead of 0 and 1 keep it finite where all are right. Newton's method
    on two numbers; scores in 0..1.
    """
    x, target = _logit(scores), _targets(right)
    design = np.stack([x, np.ones_like(x)], axis=1)
    weights = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (p - target)
        curvature = design.T @ (design * (p * (1 - p))[:, None]) + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights -= step / max(1.0, float(np.abs(step).max()))
    return float(weights[0]), float(weights[1])


def temperature(scores: Sequence[float], right: Sequence[bool]) -> float:
    """T of sigmoid(logit(score) / T) of greatest likelihood (Guo et al., 2017).

    The likelihood is concave in 1 / T, which is sought in 1e-3..1e3 by bisection of its slope;
    Platt's targets keep it finite where all are right. Scores in 0..1.
    """
    x, target = _logit(scores), _targets(right)
    low, high = np.log(1e-3), np.log(1e3)
    for _ in range(60):
        middle = (low + high) / 2
        slope = float(((target - 1 / (1 + np.exp(-np.exp(middle) * x))) * x).sum())
        low, high = (middle, high) if slope > 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))


def isotonic(scores: Sequence[float], right: Sequence[bool]) -> list[tuple[float, float]]:
    """Knots (score, probability) of the rising curve nearest to the outcomes in squares, by pooling
    neighbours that fall (Ayer et al., 1955); lines join them.

    A pool has a knot at its first and its last score. Probabilities stay 1 / (n + 2) away from 0
    and 1: n outcomes do not tell more.
    """
    at, place = np.unique(np.asarray(scores, float), return_inverse=True)
    sums, counts = np.bincount(place, np.asarray(right, float)), np.bincount(place)
    pools = list[tuple[float, int, float, float]]()  # sum, count, first and last score
    for score, total, count in zip(at.tolist(), sums.tolist(), counts.tolist(), strict=True):
        pool = (total, count, score, score)
        while pools and pools[-1][0] * pool[1] >= pool[0] * pools[-1][1]:
            before = pools.pop()
            pool = (before[0] + pool[0], before[1] + pool[1], before[2], pool[3])
        pools.append(pool)
    edge = 1 / (len(place) + 2)
    knots = dict[float, float]()
    for total, count, first, last in pools:
        value = min(max(total / count, edge), 1 - edge)
        knots[first] = knots[last] = value
    return sorted(knots.items())


def risk_coverage(
    confidences: Sequence[float], right: Sequence[bool], points: int = 10
) -> list[tuple[float, float, float]]:
    """(coverage, risk, threshold): the share of the answers whose confidence is at least the
    threshold, and the share of these that is wrong (El-Yaniv and Wiener, 2010). Coverages of about
    1 / points, 2 / points, ... 1; answers of one confidence stay together."""
    p, wrong = np.asarray(confidences, float), 1 - np.asarray(right, float)
    falling = np.sort(p)[::-1]
    found = dict[float, tuple[float, float, float]]()
    for k in range(1, points + 1):
        threshold = float(falling[max(1, round(len(p) * k / points)) - 1])
        kept = p >= threshold
        found[threshold] = (float(kept.mean()), float(wrong[kept].mean()), threshold)
    return list(found.values())


def expected_calibration_error(
    confidences: Sequence[float], right: Sequence[bool], bins: int = 10
) -> float:
    """Mean distance of confidence and accuracy over equal-width bins (Guo et al., 2017)."""
    p, y = np.asarray(confidences, float), np.asarray(right, float)
    place = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [
        abs(p[place == b].mean() - y[place == b].mean()) * (place == b).sum() for b in set(place)
    ]
    return float(sum(gaps) / len(p))


def _logit(scores: Sequence[float]) -> NDArray[np.float64]:
    bounded = np.clip(np.asarray(scores, float), 1e-6, 1 - 1e-6)
    return np.log(bounded / (1 - bounded))


def _targets(right: Sequence[bool]) -> NDArray[np.float64]:
    y = np.asarray(right, float)
    positive, negative = y.sum(), len(y) - y.sum()
    return np.where(y > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
