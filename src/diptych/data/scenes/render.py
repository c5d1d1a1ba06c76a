"""Scenes become pixels: sprites painted once from distances, then blended."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.shapes import distance
from diptych.data.scenes.world import Scene, Thing, Word

Array = NDArray[np.floating]
WHITE = np.array((255, 255, 255), np.float32)


def render(scene: Scene, size: int = 64) -> NDArray[np.uint8]:
    """The picture, antialiased, `[size, size, 3]` uint8."""
    canvas = np.empty((size, size, 3), np.float32)
    canvas[:] = v.BACKGROUNDS[scene.background]
    for thing in scene.things:
        cover, paint, left, top = _sprite_at(thing, size)
        window, part = _clip(canvas, left, top, *cover.shape[:2])
        cover, paint = cover[part], paint[part]
        color = np.array(v.COLORS[thing.color], np.float32)
        # Outlined things let the background through; stripes and dots lie on white.
        mixed = color * paint + WHITE * (1 - paint)
        window += cover * (mixed - window)
    if scene.word is not None:
        ink, left, top = _ink_at(scene.word, size)
        window, part = _clip(canvas, left, top, *ink.shape[:2])
        window += ink[part] * (np.array(v.COLORS["black"], np.float32) - window)
    return np.rint(canvas).astype(np.uint8)


def mask(thing: Thing, size: int = 64) -> NDArray[np.bool_]:
    """The silhouette `[size, size]`, its inside included where the fill is `outlined`."""
    canvas = np.zeros((size, size, 1), np.float32)
    cover, _, left, top = _sprite_at(thing, size, filled=True)
    window, part = _clip(canvas, left, top, *cover.shape[:2])
    window += cover[part]
    return canvas[..., 0] >= 0.5


def visible(scene: Scene, size: int = 64) -> list[NDArray[np.bool_]]:
    """For each thing the part of its silhouette that no later thing covers, `[size, size]`."""
    masks = [mask(thing, size) for thing in scene.things]
    covered = np.zeros((size, size), bool)
    seen: list[NDArray[np.bool_]] = []
    for silhouette in reversed(masks):
        seen.append(silhouette & ~covered)
        covered |= silhouette
    return seen[::-1]


def box(thing: Thing | Word, size: int = 64) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the pixels a thing or word touches (right and bottom out)."""
    if isinstance(thing, Word):
        ink, left, top = _ink_at(thing, size)
        touched = ink[..., 0] >= 0.5
    else:
        left = top = 0
        touched = mask(thing, size)
    rows, columns = np.flatnonzero(touched.any(1)), np.flatnonzero(touched.any(0))
    return (
        left + int(columns[0]), top + int(rows[0]),
        left + int(columns[-1]) + 1, top + int(rows[-1]) + 1,
    )  # fmt: skip


def _clip(canvas: Array, left: int, top: int, height: int, width: int) -> tuple[Array, Any]:
    """The window of the canvas under a sprite, and the part of the sprite that lies on it."""
    y0, x0 = max(top, 0), max(left, 0)
    y1 = max(min(top + height, canvas.shape[0]), y0)
    x1 = max(min(left + width, canvas.shape[1]), x0)
    part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    return canvas[y0:y1, x0:x1], part


def _sprite_at(thing: Thing, size: int, filled: bool = False) -> tuple[Array, Array, int, int]:
    scale = size / v.UNITS
    x, y = thing.x * scale, thing.y * scale
    left, top = int(x // 1), int(y // 1)
    fill = "solid" if filled else thing.fill
    cover, paint, half = _sprite(
        thing.shape, fill, thing.radius, scale, round(x - left, 4), round(y - top, 4)
    )
    return cover, paint, left - half, top - half


@lru_cache(maxsize=8192)
def _sprite(
    shape: str, fill: str, radius: float, scale: float, dx: float, dy: float
) -> tuple[Array, Array, int]:
    """(coverage, share of it in the thing's color, half width), `[H, W, 1]` each."""
    half = int(radius * 1.1 * scale) + 2
    across = (np.arange(-half, half + 1, dtype=np.float32) + 0.5 - dx)[None, :]
    down = (np.arange(-half, half + 1, dtype=np.float32) + 0.5 - dy)[:, None]
    edge = distance(shape, radius * scale, across, down)
    cover = np.clip(0.5 - edge, 0, 1)
    paint = np.ones_like(cover)
    if fill == "outlined":
        cover = cover - np.clip(0.5 - edge - v.STROKE * scale, 0, 1)
    elif fill in ("striped", "dotted"):
        inside = np.clip(0.5 - edge - 2.0 * scale, 0, 1)
        paint = 1 - inside * _white(fill, across, down, v.PITCH * scale)
    for array in (cover, paint):
        array.setflags(write=False)
    return cover[..., None], paint[..., None], half


def _white(fill: str, x: Array, y: Array, pitch: float) -> Array:
    """Where the pattern leaves white: half of each stripe, or round dots on a square grid."""
    row = np.abs((y / pitch) % 1 - 0.5) * pitch  # 0 in the middle between two rows
    if fill == "striped":
        return np.clip(pitch / 4 - row + 0.5, 0, 1) + 0 * x
    to_row = pitch / 2 - row
    to_column = pitch / 2 - np.abs((x / pitch) % 1 - 0.5) * pitch
    return np.clip(0.28 * pitch - np.hypot(to_row, to_column) + 0.5, 0, 1)


def _ink_at(word: Word, size: int) -> tuple[Array, int, int]:
    scale = size / v.UNITS
    ink = ink_of(word.text, scale)
    left = round((word.x - len(word.text) * v.ADVANCE / 2) * scale)
    return ink, left, round(word.y * scale) - ink.shape[0] // 2


@lru_cache(maxsize=4096)
def ink_of(text: str, scale: float) -> Array:
    """Coverage of a written word, `[H, W, 1]`: one glyph every `ADVANCE` units."""
    glyphs = [_glyph(letter, scale) for letter in text]
    ink = np.zeros((glyphs[0].shape[0], round(v.ADVANCE * scale * len(text)) + 1), np.float32)
    for position, glyph in enumerate(glyphs):
        start = round(position * v.ADVANCE * scale)
        part = ink[:, start : start + glyph.shape[1]]
        np.maximum(part, glyph[:, : part.shape[1]], out=part)
    ink.setflags(write=False)
    return ink[..., None]


@lru_cache(maxsize=512)
def _glyph(letter: str, scale: float) -> Array:
    """Coverage of one glyph, drawn at four times its size and averaged, `[H, W]`."""
    width, height = round(v.ADVANCE * scale), round(12 * scale)
    em = v.CAP_HEIGHT / 0.729  # DejaVu Sans Mono: the cap height is 0.729 of the em
    picture = Image.new("L", (width * 4, height * 4))
    pen = ImageDraw.Draw(picture)
    pen.text(
        (width * 2, height * 2), letter, font=_font(round(em * scale * 4)), fill=255, anchor="mm"
    )
    drawn = np.asarray(picture, np.float32) / 255
    return drawn.reshape(height, 4, width, 4).mean((1, 3))


@lru_cache(maxsize=32)
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    content = files("diptych.data.scenes").joinpath("font", "DejaVuSansMono-Bold.ttf").read_bytes()
    return ImageFont.truetype(BytesIO(content), pixels)
