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
    x, y = _logit(scores), np.asarray(right, float)
    positive, negative = y.sum(), len(y) - y.sum()
    target = np.where(y > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
    design = np.stack([x, np.ones_like(x)], axis=1)
    weights = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (p - target)
        curvature = design.T @ (design * (p * (1 - p))[:, None]) + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights -= step / max(1.0, float(np.abs(step).max()))
    return float(weights[0]), float(weights[1])


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
