"""Blobs become things: each is compared with every shape and fill, drawn where it stands.

Nothing is learned. A blob's area and center say which circle, which star it would have to be;
the one whose drawing differs least is what it is, if it differs little and the next best clearly
more. Whatever fits nothing is malformed, in words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.render import WHITE
from diptych.data.scenes.segment import Array, Blob, Mask, core
from diptych.data.scenes.templates import (
    BETWEEN,
    PURE,
    blurred,
    outlines,
    patterns,
    perimeter,
    spread,
)
from diptych.data.scenes.world import Thing

# The floors below were set on drawings of other seeds than the benchmark's, so that truth as a
# soft decoder paints it passes and shapes half-way to another do not (`benchmarks/judge.py`).
#
# Mean distance between outline and drawing: crisp truth has 0.1 px, soft and wobbling 0.3 px at
# most. The larger a thing, the more of it a person forgives.
EDGE_PIXELS, EDGE_SHARE = 0.5, 0.07  # pixels, or share of the radius if that is more
# Below this no shape that is half-way to another comes: they have 0.14 px or more.
EXACT = 0.1
# The error may be at most this share of the next best shape's: soft small stars and crosses
# have up to 0.6, torn, halved and merged things 0.8 and more.
NEXT_MARGIN = 0.75
# ... and this multiple of the error of the nearest half-way shape. At 1 the border lies where a
# shape is changed by a fifth; a person still names those. Soft truth reaches 1.0, half-way 2.5.
BETWEEN_MARGIN = 1.6
# Differing paint as a share of the area: truth after JPEG or a soft decoder has up to 0.17.
FILL_FLOOR = 0.3
# A pattern must be better than a solid filling by this much, else noise makes dots.
MALUS = np.array([0, 0.015, 0.015, 0.015], np.float32)
# Where no pattern fits well, its rows and columns may lie elsewhere; less readily.
SHIFTED_FROM, SHIFT_MALUS = 0.1, 0.03
_MOVES = (0.0, 1.75, 3.5, -1.75)  # units
SHIFTS = tuple((across, down) for across in _MOVES for down in _MOVES)
# Share of the area that neither the drawing, moved by a pixel, nor its color explains: soft
# truth has up to 0.06, two colors in one thing 0.1 and more.
UNEXPLAINED = 0.08
# Colors lie at least 80 apart (orange and yellow); decoders shift them by up to 20.
COLOR_REACH = 50
# A pixel is another color from this distance (of the largest channel) on, and surely so after
# the ramp; more is allowed at edges, where JPEG's 4:2:0 and decoders bleed. Brown on a black
# thing has 44.
OFF_COLOR, OFF_EDGE, OFF_RAMP = 32, 30, 20
# Thin strokes are never fully their color: a mix of at least this share counts as the color.
PALEST = 0.6
# So many pixels, evenly chosen, tell the color of a large thing as well as all of them.
ENOUGH = 200
# Painted otherwise by more than this, a color is a mix, and its named value is used instead.
MIXED = 30
# One pixel inside a soft edge the coverage is still this.
SECOND = 0.88
SMALL_BELOW, LARGE_FROM = 8.5, 11.5  # units: half-way between the radii of two sizes
# Generated things are at times larger than any truth; a person still calls them large.
LEAST_RADIUS, MOST_RADIUS = 5.0, 19.0

_NAMES = tuple(v.COLORS)
_COLORS = np.array(list(v.COLORS.values()), np.float32)


@dataclass(frozen=True, slots=True)
class Paint:
    """A named color, its difference to the background as painted, and how far it is off."""

    name: str
    toward: Array
    error: float


@dataclass(frozen=True, slots=True)
class Fit:
    """What a blob looks like most, and how far from it. `x`, `y`, `radius` are in units.

    `shape_error` and `next_error` (of the second-best shape) are shares of the area, `edge_error`
    is the same in pixels along the outline; `fill_error` and `unexplained` are shares of the area.
    """

    shape: str
    fill: str
    x: float
    y: float
    radius: float
    shape_error: float
    next_error: float
    between_error: float
    edge_error: float
    fill_error: float
    unexplained: float


def paint_of(blob: Blob, background: Array) -> Paint:
    """The color that most of the strongest pixels are a strong mix of, as it is painted here."""
    strong = blob.strength[blob.mask]
    pixels = blob.pixels[blob.mask][strong >= 0.75 * strong.max()] - background
    pixels = pixels[:: max(len(pixels) // ENOUGH, 1)]
    toward = _COLORS - background
    share = np.clip((pixels @ toward.T) / (toward**2).sum(1), PALEST, 1)[..., None]
    away = ((pixels[:, None] - share * toward) ** 2).sum(-1)
    nearest = away.argmin(1)
    winner = int(np.bincount(nearest, minlength=len(_NAMES)).argmax())
    mine = nearest == winner
    color = np.median(pixels[mine], axis=0).astype(np.float32)
    if np.abs(color - toward[winner]).max() > MIXED:
        color = toward[winner]
    return Paint(_NAMES[winner], color, float(np.sqrt(np.median(away[mine, winner]))))


def recognize(
    blob: Blob, paint: Paint, background: Array, scale: float
) -> tuple[Thing | None, str]:
    """The thing that a blob is, or None and a sentence that says why it is none."""
    fit = fit_of(blob, paint, background, scale)
    wrong = objection(fit, paint, scale)
    if wrong:
        return None, f"The {paint.name} blob at {fit.x:.0f}, {fit.y:.0f} {wrong}."
    size = "large" if fit.radius >= LARGE_FROM else "medium"
    size = "small" if fit.radius < SMALL_BELOW else size
    place = round(fit.x), round(fit.y), round(fit.radius, 2)
    return Thing(fit.shape, paint.name, size, fit.fill, *place), ""


def fit_of(blob: Blob, paint: Paint, background: Array, scale: float) -> Fit:
    """The shape and fill that a blob differs least from."""
    toward = paint.toward
    share = (blob.pixels - background) @ (toward / (toward @ toward))
    share = np.clip(share, 0, 1) * blob.free
    full = _silhouette(blob.filled, share)
    area = max(float(full.sum()), 1.0)
    shapes = outlines(full, PURE)
    errors = np.abs(shapes.drawn - full).sum((1, 2)) / area
    k, second = (int(i) for i in np.argsort(errors)[:2])
    shape, x, y, radius = v.SHAPES[k], *(float(a[k]) for a in (shapes.x, shapes.y, shapes.radius))
    edge_error = float(errors[k]) * area / perimeter(shape, radius)
    between = 1.0
    if edge_error > EXACT:
        between = float(np.abs(outlines(full, BETWEEN[k]).drawn - full).sum((1, 2)).min()) / area
    across = (np.arange(full.shape[1], dtype=np.float32) - x)[None, :]
    down = (np.arange(full.shape[0], dtype=np.float32) - y)[:, None]
    draw = partial(patterns, shape, radius, across, down, scale)
    fill, drawn, fill_error = _fill(share, area, draw, float(shapes.soft[k]))
    low, high = spread(drawn)
    off = _off_color(blob.pixels, background, background + toward) * blob.free
    off = np.clip((off - OFF_COLOR - OFF_EDGE * (high - low)) / OFF_RAMP, 0, 1)
    unexplained = np.maximum.reduce([share - high, low - share, off]).sum() / area
    return Fit(
        shape=shape,
        fill=fill,
        x=(x + blob.left + 0.5) / scale,
        y=(y + blob.top + 0.5) / scale,
        radius=radius / scale,
        shape_error=float(errors[k]),
        next_error=float(errors[second]),
        between_error=between,
        edge_error=edge_error,
        fill_error=fill_error,
        unexplained=float(unexplained),
    )


def _fill(
    share: Array, area: float, draw: Callable[[tuple[float, float]], Array], soft: float
) -> tuple[str, Array, float]:
    """The fill whose drawing differs least, that drawing, and by how much."""
    fill, drawn, error = v.FILLS[0], share, np.inf
    for moved in SHIFTS:
        if any(moved) and error < SHIFTED_FROM:
            break
        candidates = blurred(draw(moved), soft)
        differ = np.abs(candidates - share).sum((1, 2)) / area + MALUS
        differ += SHIFT_MALUS * any(moved)
        best = int(differ.argmin())
        if differ[best] < error:
            fill, drawn, error = v.FILLS[best], candidates[best], float(differ[best])
    return fill, drawn, error


def _silhouette(filled: Mask, share: Array) -> Array:
    """Coverage without the pattern: whatever lies two pixels inside is full.

    One pixel inside a soft edge still has a little less, while a white stripe may begin there.
    """
    inner = core(filled)
    return np.where(core(inner), np.float32(1), np.where(inner, np.maximum(share, SECOND), share))


def _off_color(pixels: Array, background: Array, color: Array) -> Array:
    """How far each pixel is from a mix of the color with the background, or with white: 0..255."""
    off = np.full(pixels.shape[:2], np.inf, np.float32)
    for ground in (background, WHITE):
        toward, apart = color - ground, pixels - ground
        share = np.clip(apart @ (toward / (toward @ toward)), 0, 1)[..., None]
        off = np.minimum(off, np.abs(apart - share * toward).max(-1))
    return off


def objection(fit: Fit, paint: Paint, scale: float) -> str:
    """Why a blob is no clean thing, or nothing."""
    if fit.edge_error > max(EDGE_PIXELS, EDGE_SHARE * fit.radius * scale) or fit.shape_error > min(
        NEXT_MARGIN * fit.next_error, BETWEEN_MARGIN * fit.between_error
    ):
        return f"is no clear shape (nearest: {fit.shape})"
    if not LEAST_RADIUS <= fit.radius <= MOST_RADIUS:
        return f"is a {fit.shape} of a radius of {fit.radius:.0f}, which no size has"
    if paint.error > COLOR_REACH:
        return "has no color that has a name"
    if fit.fill_error > FILL_FLOOR:
        return f"is a {fit.shape} of no clear fill (nearest: {fit.fill})"
    if fit.unexplained > UNEXPLAINED:
        return f"is a {fit.shape} with damage or a second color"
    return ""
