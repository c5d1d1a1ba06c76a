"""Black blobs become letters, and letters in a row become the word."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.render import ink_of
from diptych.data.scenes.segment import Array, Blob
from diptych.data.scenes.world import Word

# Squared difference to the drawn letter as a share of its ink. Crisp letters have 0, those of a
# soft decoder at 64 px up to 0.17; the nearest two letters (5 and S) differ by 0.25.
LETTER_FLOOR = 0.25
LETTER_MARGIN = 0.97  # of the error of the next best letter
SOFT = (0.7, 1.0)  # blurs, in pixels, in which the letters are also known
TALLEST, LOWEST = 13.2, 7.5  # units: a Q with its tail has 11, softened 13
NEAR = 1.6  # units that a letter may stand beside its place in the row


@dataclass(frozen=True, slots=True)
class Letters:
    """Letters that hang together; `x`, `y` is the left top of the first one's cell, in units."""

    text: str
    x: float
    y: float


def read(blob: Blob, background: Array, scale: float) -> Letters | None:
    """The letters that a black blob shows, or None if it is no writing."""
    rows, columns = np.flatnonzero(blob.mask.any(1)), np.flatnonzero(blob.mask.any(0))
    height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    if not LOWEST * scale <= height <= TALLEST * scale:
        return None
    toward = np.array(v.COLORS["black"], np.float32) - background
    ink = np.clip((blob.pixels - background) @ (toward / (toward @ toward)), 0, 1) * blob.free
    count = max(round((width / scale - 6) / v.ADVANCE) + 1, 1)
    left = (columns[0] + columns[-1] + 1 - count * v.ADVANCE * scale) / 2
    found = _best_row(ink, count, left, float(rows[0]) - 1.1 * scale, scale)
    if found is None:
        return None
    text, x, y = found
    return Letters(text, (blob.left + x) / scale, (blob.top + y) / scale)


def word_of(fragments: list[Letters]) -> tuple[Word | None, str]:
    """The word that all letters form together, or None and why they form none."""
    if not fragments:
        return None, ""
    fragments = sorted(fragments, key=lambda f: f.x)
    first = fragments[0]
    text = ""
    for fragment in fragments:
        place = first.x + len(text) * v.ADVANCE
        if abs(fragment.x - place) > NEAR or abs(fragment.y - first.y) > NEAR:
            return None, f"The letters {', '.join(f.text for f in fragments)} form no word."
        text += fragment.text
    middle = sum(fragment.y for fragment in fragments) / len(fragments) + 6
    return Word(text, round(first.x + len(text) * v.ADVANCE / 2), round(middle)), ""


def _best_row(
    ink: Array, count: int, left: float, top: float, scale: float
) -> tuple[str, int, int] | None:
    """Letters in `count` cells, all moved alike by up to 1.5 units, and the place of the first."""
    templates, norms, height, width = _alphabet(scale)
    reach = int(1.5 * scale + 1)
    pad = height + width
    ink = np.pad(ink, pad)
    spots = [
        (round(left) + dx, round(top) + dy)
        for dy in range(-reach, reach + 1)
        for dx in range(-reach, reach + 1)
    ]
    starts = [round(cell * v.ADVANCE * scale) for cell in range(count)]
    patches = np.stack([
        ink[pad + y : pad + y + height, pad + x + start : pad + x + start + width].ravel()
        for x, y in spots
        for start in starts
    ])  # fmt: skip
    squares = (patches**2).sum(1)[:, None] - 2 * patches @ templates.T + norms
    errors = (squares / norms).reshape(len(spots), count, 1 + len(SOFT), len(v.LETTERS)).min(2)
    best = int(errors.min(2).sum(1).argmin())
    two = np.partition(errors[best], 1, axis=1)
    if (two[:, 0] > LETTER_FLOOR).any() or (two[:, 0] > LETTER_MARGIN * two[:, 1]).any():
        return None
    text = "".join(v.LETTERS[k] for k in errors[best].argmin(1))
    return text, *spots[best]


@lru_cache(maxsize=8)
def _alphabet(scale: float) -> tuple[Array, Array, int, int]:
    """All letters, crisp then soft, one a row; their squared norms; a cell's height and width."""
    crisp = [ink_of(letter, scale)[..., 0] for letter in v.LETTERS]
    height, width = crisp[0].shape
    drawn = crisp + [_softened(glyph, deviation) for deviation in SOFT for glyph in crisp]
    templates = np.stack([glyph.ravel() for glyph in drawn]).astype(np.float32)
    return templates, (templates**2).sum(1), height, width


def _softened(glyph: Array, deviation: float) -> Array:
    """As a decoder paints it: two passes of a three-tap kernel."""
    tap = deviation**2 / 4
    padded = np.pad(glyph, 2)
    for _ in range(2):
        padded = padded + tap * (np.roll(padded, 1, 0) + np.roll(padded, -1, 0) - 2 * padded)
        padded = padded + tap * (np.roll(padded, 1, 1) + np.roll(padded, -1, 1) - 2 * padded)
    return padded[2:-2, 2:-2]
