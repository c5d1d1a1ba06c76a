"""An invisible mark in the pixels that says: a machine painted this.

A tile of 128 x 128 is repeated over the picture, in lightness only: a sum of waves of middle
frequency whose phases a fixed key draws (spread spectrum: Cox et al., 1997; a repeated tile is
found again in a crop: Kutter, 1998). Half of the waves say where the tile begins. The others
spell 24 bits and a check of 8. The mark is found without the original: the picture is folded to
one tile, and only the phases of its waves are compared, at every shift.

False alarms are bounded for every picture that does not know the key. With weights w and phases
drawn evenly, P(sum of w cos >= z sqrt(sum of w^2 / 2)) <= exp(-z^2 / 2), since E exp(t cos) =
I0(t) <= exp(t^2 / 4). The bound is summed over all shifts and sizes that are tried.

Whoever reads this file can take the mark out of a picture. It is a sign, not a lock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LEAST_SIDE = 256
TILE = 128
FALSE_ALARMS = 1e-6  # at most this share of unmarked pictures is taken for marked
SIZES = (1.0, 4 / 3, 2 / 3, 2.0, 0.5, 1.25, 0.8)  # tried one after the other
BITS = 24
_CHECK = 8
_KEY = 0xD1B7_1C00
_BAND = (7, 30)  # waves a tile: 30 of 128 outlive a picture of half the size
_SOFT, _FULL = 28, 39  # the mark's height on plain and on busy ground, in sixteenths of a step
_MOST_SIDE = 1024  # of what is looked at: its middle
_FLOAT = np.float32


class _Waves(NamedTuple):
    """Frequencies of the upper half of a tile's spectrum: `rows`, `columns` [K], their phases
    [K] and `bit` [K], -1 for those that say where the tile begins."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    phases: NDArray[np.float64]
    bit: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What was found. `strength` is z of the text above, `chance` the bound on finding so much in
    an unmarked picture; `payload` None where too little is left of it to be read."""

    strength: float
    chance: float
    payload: int | None


def large_enough(width: int, height: int) -> bool:
    """Whether a picture of this size carries a mark."""
    return min(width, height) >= LEAST_SIDE


def marked(picture: Image.Image, payload: int) -> Image.Image:
    """The picture with the mark in it; smaller ones as they are. The same picture and payload (24
    bits) give the same pixels on every machine: all but the tile is whole numbers."""
    if not large_enough(*picture.size):
        return picture
    pixels = np.asarray(picture.convert("RGB")).astype(np.int32)
    height, width = pixels.shape[:2]
    tile = _tile(payload)
    over = np.tile(tile, (-(-height // TILE), -(-width // TILE)))[:height, :width]
    change = (over * _ground(pixels) + 512) >> 10  # tile in 64ths, ground in 16ths
    return Image.fromarray(np.clip(pixels + change[..., None], 0, 255).astype(np.uint8))


def find_mark(picture: Image.Image) -> Mark | None:
    """The mark of a picture; None where there is none, or not enough of it, or the picture is
    smaller than 256 pixels. Cropped pictures are searched at every shift, and others at the
    sizes that are usual."""
    if not large_enough(*picture.size):
        return None
    gray = picture.convert("L")
    for size in SIZES:
        wide, high = round(gray.width * size), round(gray.height * size)
        if min(wide, high) < TILE:
            continue
        found = _found(_middle(gray if size == 1 else gray.resize((wide, high))))
        if found is not None:
            return found
    return None


@cache
def _waves() -> _Waves:
    """From the key by a generator whose raw numbers never change."""
    rows, columns = np.mgrid[-TILE // 2 : TILE // 2, 0 : TILE // 2]
    radius = np.hypot(rows, columns)
    # One of each pair of opposite waves; none along an axis, where blocks and lines are.
    kept = (radius >= _BAND[0]) & (radius <= _BAND[1]) & (columns > 0) & (rows != 0)
    rows, columns = rows[kept], columns[kept]
    raw = np.random.PCG64(_KEY).random_raw(2 * len(rows))
    phases = raw[: len(rows)].astype(np.float64) / 2**64 * 2 * np.pi
    place = np.argsort(raw[len(rows) :], kind="stable").argsort(kind="stable")
    bit = np.where(place % 2 == 0, -1, (place // 2) % (BITS + _CHECK))
    return _Waves(rows, columns, phases, bit)


def _tile(payload: int) -> NDArray[np.int32]:
    """The tile [128, 128] in 64ths of its spread."""
    if not 0 <= payload < 1 << BITS:
        raise ValueError(f"{payload} is no number of {BITS} bits")
    waves = _waves()
    word = payload << _CHECK | _check(payload)
    sign = np.where((waves.bit >= 0) & (word >> np.maximum(waves.bit, 0) & 1 == 0), -1.0, 1.0)
    spectrum = np.zeros((TILE, TILE), np.complex128)
    spectrum[waves.rows, waves.columns] = sign * np.exp(1j * waves.phases)
    spectrum[-waves.rows, -waves.columns] = spectrum[waves.rows, waves.columns].conj()
    tile = np.fft.ifft2(spectrum).real
    return np.rint(tile / tile.std() * 64).astype(np.int32)


def _check(payload: int) -> int:
    """Eight bits that belong to a payload."""
    mixed = (payload * 0x9E3779B1 + 0x85EBCA6B) & 0xFFFFFFFF
    return (mixed ^ mixed >> 15) >> 9 & 0xFF


def _ground(pixels: NDArray[np.int32]) -> NDArray[np.int32]:
    """How much each place hides, 28 to 39: by the mean change of lightness in the 8 x 8 around."""
    gray = (pixels @ np.array([77, 150, 29])) >> 8
    change = np.zeros_like(gray)
    change[:, 1:] += abs(np.diff(gray, axis=1))
    change[1:] += abs(np.diff(gray, axis=0))
    around = _box_sum(np.minimum(change, 64), 4)
    return np.clip(_SOFT + around // 16, _SOFT, _FULL).astype(np.int32)


def _box_sum(values: NDArray[np.int64], reach: int) -> NDArray[np.int64]:
    """Sums over 2 reach x 2 reach, edges repeated: [H, W] -> [H, W]."""
    padded = np.pad(values, ((reach, reach), (reach, reach)), mode="edge").astype(np.int64)
    total = np.pad(padded.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    n = 2 * reach
    boxes = total[n:, n:] - total[:-n, n:] - total[n:, :-n] + total[:-n, :-n]
    return boxes[: values.shape[0], : values.shape[1]]


def _middle(gray: Image.Image) -> NDArray[np.int64]:
    left, top = max(0, gray.width - _MOST_SIDE) // 2, max(0, gray.height - _MOST_SIDE) // 2
    box = (left, top, min(left + _MOST_SIDE, gray.width), min(top + _MOST_SIDE, gray.height))
    return np.asarray(gray.crop(box)).astype(np.int64)


def _found(gray: NDArray[np.int64]) -> Mark | None:
    spectrum = np.fft.fft2(_folded(gray))
    waves = _waves()
    heard = spectrum[waves.rows, waves.columns]
    loud = np.abs(heard)
    weight = np.sqrt(loud)  # between phases alone and the waves as they are
    turned = np.where(loud > 0, heard / np.maximum(loud, 1e-30), 0) * np.exp(-1j * waves.phases)
    sync = waves.bit < 0
    spread = math.sqrt(float((weight[sync] ** 2).sum()) / 2)
    if spread == 0:
        return None
    field = np.zeros((TILE, TILE), np.complex128)
    field[waves.rows[sync], waves.columns[sync]] = weight[sync] * turned[sync]
    scores = np.fft.ifft2(field).real * TILE**2 / spread
    top, left = np.unravel_index(int(scores.argmax()), scores.shape)
    strength = float(scores[top, left])
    chance = math.exp(min(0.0, math.log(TILE**2 * len(SIZES)) - strength**2 / 2))
    if chance > FALSE_ALARMS:
        return None
    moved = np.exp(2j * np.pi * (waves.rows * top + waves.columns * left) / TILE)
    agreed: NDArray[np.float64] = weight * np.real(turned * moved)
    return Mark(strength=strength, chance=chance, payload=_read(agreed, waves.bit))


def _read(agreed: NDArray[np.float64], bit: NDArray[np.int64]) -> int | None:
    votes = np.bincount(bit[bit >= 0], agreed[bit >= 0], minlength=BITS + _CHECK)
    word = sum(1 << i for i, vote in enumerate(votes) if vote > 0)
    payload = word >> _CHECK
    return payload if word & ((1 << _CHECK) - 1) == _check(payload) else None


def _folded(gray: NDArray[np.int64]) -> NDArray[np.float64]:
    """All tiles of a picture on top of each other [128, 128]: what is left when the lightness
    around is taken away, in units of its own spread there, so that an edge drowns nothing."""
    high, wide = gray.shape
    rest = gray - (_box_sum(gray, 4) / 64).astype(_FLOAT)
    spread = np.sqrt((_box_sum((rest * rest).astype(np.int64), 4) / 64).astype(_FLOAT) + 1)
    flat = np.zeros((-(-high // TILE) * TILE, -(-wide // TILE) * TILE), _FLOAT)
    flat[:high, :wide] = np.clip(rest / spread, -2, 2)
    tiles = flat.reshape(flat.shape[0] // TILE, TILE, flat.shape[1] // TILE, TILE)
    return tiles.sum(axis=(0, 2), dtype=np.float64)
