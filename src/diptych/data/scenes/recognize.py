"""Blobs become things: each is compared with every shape and fill, drawn where it stands.

Nothing is learned. A blob's area and center say which circle, which star it would have to be;
the one whose drawing differs least is what it is, if it differs little and the next best clearly
more. Whatever fits nothing is malformed, in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.segment import Array, Blob, eroded
from diptych.data.scenes.shapes import distance
from diptych.data.scenes.world import Thing

SHAPE_FLOOR = 0.2
SHAPE_MARGIN = 0.75
FILL_FLOOR = 0.3
UNEXPLAINED = 0.06
COLOR_REACH = 60
OFF_COLOR = 60
PALEST = 0.6
SHIFTED = 30
CRISP = 0.18
INDISTINCT = 3.0  # units of area
SMALL_BELOW, LARGE_FROM = 8.5, 11.5

_SPAN, _CELL = 1.75, 0.01  # of the tables of distances, in radii


@dataclass(frozen=True, slots=True)
class Fit:
    """What a blob looks like most, and how far it is from it: shares of the blob's area.

    `x`, `y`, `radius` are in pixels of the whole picture.
    """

    shape: str
    fill: str
    color: str
    x: float
    y: float
    radius: float
    shape_error: float
    shape_next: float
    fill_error: float
    fill_next: float
    color_error: float
    unexplained: float


def recognize(blob: Blob, background: Array, scale: float) -> tuple[Thing | None, str]:
    """The thing that a blob is, or None and a sentence that says why it is none."""
    fit = fit_of(blob, background, scale)
    wrong = _objection(fit, scale)
    if wrong:
        return None, f"The {fit.color} blob at {fit.x / scale:.0f}, {fit.y / scale:.0f} {wrong}."
    radius = fit.radius / scale
    size = "small" if radius < SMALL_BELOW else "medium" if radius < LARGE_FROM else "large"
    x, y = round(fit.x / scale), round(fit.y / scale)
    return Thing(fit.shape, fit.color, size, fit.fill, x, y, round(radius, 2)), ""


def fit_of(blob: Blob, background: Array, scale: float) -> Fit:
    name, toward, color_error = _color(blob, background)
    apart = blob.pixels - background
    paint = np.clip(apart @ (toward / (toward @ toward)), 0, 1) * blob.free
    inside = eroded(eroded(blob.filled))
    full = np.where(inside, np.float32(1), paint)
    shape, x, y, radius, soft, errors = _shape(full)
    order = np.argsort(errors)
    height, width = full.shape
    across = (np.arange(width, dtype=np.float32) - x)[None, :]
    down = (np.arange(height, dtype=np.float32) - y)[:, None]
    edge = distance_at(shape, radius, across, down)
    patterns = blurred(fills(edge, across, down, scale), soft)
    area = full.sum()
    differ = np.abs(patterns - paint).sum((1, 2)) / area
    best = np.argsort(differ)
    drawn = patterns[best[0]]
    off = np.abs(apart - paint[..., None] * toward).max(-1) * blob.free > OFF_COLOR
    low, high = _spread(drawn)
    beyond = np.maximum(np.maximum(paint - high, low - paint), 0)
    beyond = np.maximum(beyond, off)
    return Fit(
        shape, v.FILLS[best[0]], name,
        x + blob.left + 0.5, y + blob.top + 0.5, radius,
        float(errors[order[0]]), float(errors[order[1]]),
        float(differ[best[0]]), float(differ[best[1]]),
        color_error, float(beyond.sum() / area),
    )  # fmt: skip


@lru_cache(maxsize=256)
def indistinct(shape: str, size: str, seen: str, asked: str) -> bool:
    """Whether two fills of so small a thing are one picture: no dot fits into a small moon."""
    radius = v.SIZES[size][1]
    line = (np.arange(-40, 41, dtype=np.float32) / 4)[None, :]
    drawn = fills(distance(shape, radius, line, line.T), line, line.T, 1.0)
    a, b = v.FILLS.index(seen), v.FILLS.index(asked)
    return size == "small" and float(np.abs(drawn[a] - drawn[b]).sum()) / 16 < INDISTINCT


def _objection(fit: Fit, scale: float) -> str:
    if fit.shape_error > SHAPE_FLOOR or fit.shape_error > SHAPE_MARGIN * fit.shape_next:
        return f"is no clear shape (nearest: {fit.shape})"
    if fit.color_error > COLOR_REACH:
        return "has no color that has a name"
    if fit.fill_error > FILL_FLOOR:
        return f"is a {fit.shape} of no clear fill (nearest: {fit.fill})"
    if fit.unexplained > UNEXPLAINED:
        return f"is a {fit.shape} with damage or a second color"
    return ""


_NAMES = tuple(v.COLORS)
_COLORS = np.array(list(v.COLORS.values()), np.float32)


def _color(blob: Blob, background: Array) -> tuple[str, Array, float]:
    """The color that most of the strongest pixels are a strong mix of, as it is painted here."""
    strong = blob.strength[blob.mask]
    pixels = blob.pixels[blob.mask][strong >= 0.75 * strong.max()] - background
    toward = _COLORS - background
    share = (pixels @ toward.T) / (toward**2).sum(1)
    share = np.clip(share, PALEST, 1)[..., None]
    away = ((pixels[:, None] - share * toward) ** 2).sum(-1)
    nearest = away.argmin(1)
    winner = int(np.bincount(nearest, minlength=len(_NAMES)).argmax())
    mine = nearest == winner
    color = np.median(pixels[mine], axis=0).astype(np.float32)
    if np.abs(color - toward[winner]).max() > SHIFTED:
        color = toward[winner]
    return _NAMES[winner], color, float(np.sqrt(np.median(away[mine, winner])))


def _shape(full: Array) -> tuple[str, float, float, float, float, Array]:
    """Shape, center, radius and softness in window pixels, and every shape's error."""
    height, width = full.shape
    area = full.sum()
    center_x = full.sum(0) @ np.arange(width) / area
    center_y = full.sum(1) @ np.arange(height) / area
    tables, measures = _tables()
    radius = np.sqrt(area / measures[:, 0])
    x = center_x - measures[:, 1] * radius
    y = center_y - measures[:, 2] * radius
    soft = (full * (1 - full)).sum() / (measures[:, 3] * radius)
    columns = _cells((np.arange(width) - x[:, None]) / radius[:, None])
    rows = _cells((np.arange(height) - y[:, None]) / radius[:, None])
    which = np.arange(len(v.SHAPES))[:, None, None]
    edge = tables[which, rows[:, :, None], columns[:, None, :]] * radius[:, None, None]
    drawn = blurred(np.clip(0.5 - edge, 0, 1), soft[:, None, None])
    errors = np.abs(drawn - full).sum((1, 2)) / area
    k = int(errors.argmin())
    return v.SHAPES[k], float(x[k]), float(y[k]), float(radius[k]), float(soft[k]), errors


def blurred(drawn: Array, soft: Array | float) -> Array:
    """As blurred as an edge is that has this much half-covered area per length.

    A crisp antialiased edge has 1/6 pixel of it; the variance of the blur that adds more was
    fitted to blurred drawings. Two passes of a three-tap kernel reach deviations up to 1.25.
    """
    excess = np.maximum(soft - CRISP, 0)
    tap = np.minimum((1.2 * excess + 3.5 * excess**2) / 4, 0.4)
    for _ in range(2):
        drawn = drawn.copy()
        middle = drawn[..., 1:-1, :]
        middle += tap * (drawn[..., :-2, :] + drawn[..., 2:, :] - 2 * middle)
        middle = drawn[..., 1:-1]
        middle += tap * (drawn[..., :-2] + drawn[..., 2:] - 2 * middle)
    return drawn


def distance_at(shape: str, radius: float, across: Array, down: Array) -> Array:
    tables, _ = _tables()
    table = tables[v.SHAPES.index(shape)]
    return table[_cells(down[:, 0] / radius)[:, None], _cells(across[0] / radius)] * radius


def fills(edge: Array, across: Array, down: Array, scale: float) -> Array:
    """The painted share of each pixel for every fill, in the order of `vocabulary.FILLS`."""
    cover = np.clip(0.5 - edge, 0, 1)
    hollow = np.clip(0.5 - edge - v.STROKE * scale, 0, 1)
    inside = np.clip(0.5 - edge - 2.0 * scale, 0, 1)
    pitch = v.PITCH * scale
    row = np.abs((down / pitch) % 1 - 0.5) * pitch
    column = np.abs((across / pitch) % 1 - 0.5) * pitch
    stripes = np.clip(pitch / 4 - row + 0.5, 0, 1)
    dots = np.clip(0.28 * pitch - np.hypot(pitch / 2 - row, pitch / 2 - column) + 0.5, 0, 1)
    return np.stack(
        [cover, cover - inside * stripes, cover - inside * dots, cover - hollow]
    ).astype(np.float32)


def _spread(drawn: Array) -> tuple[Array, Array]:
    """Least and most of each pixel and its eight neighbors."""
    padded = np.pad(drawn, 1, mode="edge")
    views = [
        padded[y : y + drawn.shape[0], x : x + drawn.shape[1]] for y in range(3) for x in range(3)
    ]
    return np.minimum.reduce(views), np.maximum.reduce(views)


def _cells(position: Array) -> NDArray[np.intp]:
    last = round(2 * _SPAN / _CELL)
    return np.clip(np.rint((position + _SPAN) / _CELL), 0, last).astype(np.intp)


@lru_cache(maxsize=1)
def _tables() -> tuple[Array, Array]:
    """Distances at radius one `[8, N, N]`, and of each shape: area, center x, y, perimeter."""
    line = np.linspace(-_SPAN, _SPAN, round(2 * _SPAN / _CELL) + 1, dtype=np.float32)
    tables = np.stack([distance(s, 1.0, line[None, :], line[:, None]) for s in v.SHAPES])
    inside = tables < 0
    area = inside.sum((1, 2))
    x = (inside.sum(1) * line).sum(1) / area
    y = (inside.sum(2) * line).sum(1) / area
    perimeter = (np.abs(tables) < 3 * _CELL).sum((1, 2)) * _CELL**2 / (6 * _CELL)
    measures = np.stack([area * _CELL**2, x, y, perimeter], axis=1)
    return tables.astype(np.float32), measures
