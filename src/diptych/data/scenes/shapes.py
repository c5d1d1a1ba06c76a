"""Signed distances to the outlines of the shapes (negative inside), from which all is painted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def _star() -> list[tuple[float, float]]:
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    lengths = np.where(np.arange(10) % 2 == 0, 1.06, 0.5)
    return [
        (float(x), float(y) + 0.06)
        for x, y in zip(lengths * np.cos(angles), lengths * np.sin(angles), strict=True)
    ]


def _heart() -> list[tuple[float, float]]:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return [(float(a), float(b)) for a, b in zip(x / 16.5, (y - 2.5) / 15.5, strict=True)]


_ARM = 0.42
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
    "triangle": [(0.0, -0.95), (0.98, 0.84), (-0.98, 0.84)],
    "diamond": [(0.0, -1.0), (0.82, 0.0), (0.0, 1.0), (-0.82, 0.0)],
    "star": _star(),
    "heart": _heart(),
    "cross": [
        (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
        (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM),
    ],
}  # fmt: skip


def distance(shape: str, radius: float, x: Array, y: Array) -> Array:
    """Distance to the outline of a shape of this radius around the origin.

    `x` and `y` broadcast to `[H, W]`, in the unit of `radius`; y grows downwards.
    """
    if shape == "circle":
        return np.hypot(x, y) - radius
    if shape == "moon":
        bite = 0.74 * radius - np.hypot(x - 0.5 * radius, y)
        return np.maximum(np.hypot(x, y) - radius, bite)
    return _polygon(np.array(_OUTLINES[shape], np.float32) * np.float32(radius), x, y)


def _polygon(corners: Array, x: Array, y: Array) -> Array:
    """Distance to a closed polygon; inside by the even-odd rule over crossed edges."""
    x, y = np.broadcast_arrays(x, y)
    nearest = np.full(x.shape, np.inf, np.float32)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        ex, ey = bx - ax, by - ay
        px, py = x - ax, y - ay
        along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
        nearest = np.minimum(nearest, (px - along * ex) ** 2 + (py - along * ey) ** 2)
        crosses = (ay > y) != (by > y)
        if ay != by:
            inside ^= crosses & (x < ex * (y - ay) / ey + ax)
    edge = np.sqrt(nearest)
    return np.where(inside, -edge, edge)
