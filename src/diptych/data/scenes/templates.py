"""What the judge compares with: every shape at any place and radius, every fill, any softness."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.segment import Array
from diptych.data.scenes.shapes import distance

# Tables of distances at radius one: wide enough for the margin around the smallest blob, fine
# enough that at a radius of 28 px (large, at 128 px) a cell is 0.3 px.
_SPAN, _CELL = 1.75, 0.01
# Half-covered area per length of an antialiased edge, sum of c (1 - c), that counts as crisp.
# A ramp one pixel wide has 1/6; corners and short edges put it up to 0.02 higher.
CRISP = 0.18
# Units of area: two fills of a small thing that differ by less are one picture to the eye.
INDISTINCT = 3.0


PURE = tuple((k, k) for k in range(len(v.SHAPES)))
BETWEEN = tuple(tuple((k, j) for j in range(len(v.SHAPES)) if j != k) for k in range(len(PURE)))


@dataclass(frozen=True, slots=True)
class Outlines:
    """Center, radius and softness `[K]` in pixels; coverage `[K, H, W]` for K pairs of shapes."""

    x: Array
    y: Array
    radius: Array
    soft: Array
    drawn: Array


def outlines(full: Array, pairs: tuple[tuple[int, int], ...]) -> Outlines:
    """Shapes as this silhouette `[H, W]` would have them, by its area and center.

    A pair of two shapes is the one half-way between them (the mean of their distances).
    """
    height, width = full.shape
    area = max(float(full.sum()), 1.0)
    first, second = np.array(pairs).T
    tables, measures = _tables()
    size, right, low, length = measures[first, second].T
    radius = np.sqrt(area / size)
    x = full.sum(0) @ np.arange(width, dtype=np.float32) / area - right * radius
    y = full.sum(1) @ np.arange(height, dtype=np.float32) / area - low * radius
    soft = (full * (1 - full)).sum() / (length * radius)
    columns = _cells((np.arange(width) - x[:, None]) / radius[:, None])[:, None, :]
    rows = _cells((np.arange(height) - y[:, None]) / radius[:, None])[:, :, None]
    edge = tables[first[:, None, None], rows, columns]
    if pairs is not PURE:
        edge = (edge + tables[second[:, None, None], rows, columns]) / 2
    drawn = np.clip(0.5 - edge * radius[:, None, None], 0, 1)
    return Outlines(x, y, radius, soft, blurred(drawn, soft[:, None, None]))


def patterns(
    shape: str, radius: float, across: Array, down: Array, scale: float, moved: tuple[float, float]
) -> Array:
    """The painted share of each pixel `[4, H, W]` in every fill, in the order of the vocabulary.

    `across` `[1, W]` and `down` `[H, 1]` are distances to the center in pixels; stripes and dots
    are moved by so many units against it.
    """
    table = _tables()[0][v.SHAPES.index(shape)]
    edge = table[_cells(down / radius), _cells(across / radius)] * radius
    cover = np.clip(0.5 - edge, 0, 1)
    hollow = np.clip(0.5 - edge - v.STROKE * scale, 0, 1)
    inside = np.clip(0.5 - edge - 2.0 * scale, 0, 1)
    pitch = v.PITCH * scale
    row = np.abs((down / pitch - moved[1] / v.PITCH) % 1 - 0.5) * pitch
    column = np.abs((across / pitch - moved[0] / v.PITCH) % 1 - 0.5) * pitch
    stripes = np.clip(pitch / 4 - row + 0.5, 0, 1)
    dots = np.clip(0.28 * pitch - np.hypot(pitch / 2 - row, pitch / 2 - column) + 0.5, 0, 1)
    whites = {"solid": 0 * cover, "striped": inside * stripes, "dotted": inside * dots}
    whites["outlined"] = hollow
    return np.stack([cover - whites[fill] for fill in v.FILLS]).astype(np.float32)


@lru_cache(maxsize=256)
def indistinct(shape: str, size: str, seen: str, asked: str) -> bool:
    """Whether two fills of so small a thing are one picture: no dot fits into a small moon."""
    line = (np.arange(-40, 41, dtype=np.float32) / 4)[None, :]
    drawn = patterns(shape, v.SIZES[size][1], line, line.T, 1.0, (0, 0))
    differ = np.abs(drawn[v.FILLS.index(seen)] - drawn[v.FILLS.index(asked)]).sum() / 16
    return size == "small" and float(differ) < INDISTINCT


def blurred(drawn: Array, soft: Array | float) -> Array:
    """As blurred as an edge is that has this much half-covered area per length.

    The variance that goes with it was fitted to drawings blurred by Gaussians of 0.5 to 1.3
    pixels. Two passes of a three-tap kernel reach deviations up to 1.25.
    """
    excess = np.maximum(soft - CRISP, 0)
    if not np.any(excess):
        return drawn
    tap = np.minimum((1.2 * excess + 3.5 * excess**2) / 4, 0.4)
    drawn = drawn.copy()
    for _ in range(2):
        middle = drawn[..., 1:-1, :]
        middle += tap * (drawn[..., :-2, :] + drawn[..., 2:, :] - 2 * middle)
        middle = drawn[..., 1:-1]
        middle += tap * (drawn[..., :-2] + drawn[..., 2:] - 2 * middle)
    return drawn


def spread(drawn: Array) -> tuple[Array, Array]:
    """Least and most of each pixel and its eight neighbors."""
    padded = np.pad(drawn, 1, mode="edge")
    rows = padded[:-2], padded[1:-1], padded[2:]
    low, high = np.minimum.reduce(rows), np.maximum.reduce(rows)
    return (
        np.minimum.reduce([low[:, :-2], low[:, 1:-1], low[:, 2:]]),
        np.maximum.reduce([high[:, :-2], high[:, 1:-1], high[:, 2:]]),
    )


def perimeter(shape: str, radius: float) -> float:
    """Length of the outline, in the unit of the radius."""
    k = v.SHAPES.index(shape)
    return float(_tables()[1][k, k, 3]) * radius


def _cells(position: Array) -> NDArray[np.intp]:
    last = round(2 * _SPAN / _CELL)
    return np.clip(np.rint((position + _SPAN) / _CELL), 0, last).astype(np.intp)


@lru_cache(maxsize=1)
def _tables() -> tuple[Array, Array]:
    """Distances at radius one `[8, N, N]`; area, center x, y and perimeter of all pairs."""
    line = np.linspace(-_SPAN, _SPAN, round(2 * _SPAN / _CELL) + 1, dtype=np.float32)
    tables = np.stack([distance(s, 1.0, line[None, :], line[:, None]) for s in v.SHAPES])
    tables = tables.astype(np.float32)
    measures = np.zeros((len(v.SHAPES), len(v.SHAPES), 4), np.float32)
    for k, j in combinations_with_replacement(range(len(v.SHAPES)), 2):
        edge = (tables[k] + tables[j]) / 2
        inside = edge < 0
        area = inside.sum()
        x, y = inside.sum(0) @ line / area, inside.sum(1) @ line / area
        length = (np.abs(edge) < 3 * _CELL).sum() * _CELL / 6
        measures[k, j] = measures[j, k] = area * _CELL**2, x, y, length
    return tables, measures
