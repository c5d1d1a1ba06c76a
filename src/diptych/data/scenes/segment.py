"""Pixels become blobs: what differs from the background, in connected pieces, holes known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.data.scenes import vocabulary as v
from diptych.foundation.errors import InvalidValue

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]
Box = tuple[int, int, int, int]  # top, left, bottom, right

# Sizes the recognizer works at: below 64 px a stroke is thinner than two pixels, above 128 px
# nothing is gained but time.
LEAST, MOST = 64, 128
# A pixel is painted when a channel is this far from the background. Noise of 4/255 reaches 18,
# JPEG ringing about 30; the palest mix that matters (pink on gray, half covered) has 52.
PAINTED = 40
# ... and has at least this share of the strongest pixel up to two away: soft edges of neighbors
# three pixels apart meet at a third of their strength.
PEAK_SHARE = 0.4
# Named backgrounds lie at least 21 apart; a decoder shifts them by up to 12.
BACKGROUND_REACH = 30


@dataclass(frozen=True, slots=True)
class Blob:
    """A connected painted piece in a window `[H, W]` that starts at pixel (`left`, `top`).

    `mask` is the piece, `filled` the same with its holes closed, `free` the piece and up to two
    pixels around it that are nearest to it. `pixels` `[H, W, 3]` is the picture in the window,
    `strength` how far each pixel is from the background in its farthest channel.
    """

    left: int
    top: int
    mask: Mask
    filled: Mask
    free: Mask
    pixels: Array
    strength: Array


def at_work_size(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture at a size from 64 to 128 px. Raises InvalidValue if it is not [S, S, 3] uint8."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.shape[0] != picture.shape[1]:
        raise InvalidValue(
            f"The judge cannot look at an array of shape {picture.shape}.",
            do="Give a square RGB picture [S, S, 3].",
        )
    if picture.dtype != np.uint8:
        raise InvalidValue(f"The judge reads uint8, not {picture.dtype}.", do="Scale to 0..255.")
    size = picture.shape[0]
    work = min(max(size, LEAST), MOST)
    if work == size:
        return picture
    kernel = Image.Resampling.BICUBIC if work > size else Image.Resampling.BOX
    return np.asarray(Image.fromarray(picture).resize((work, work), kernel))


def background_of(pixels: Array) -> tuple[Array, str | None]:
    """The color around everything `[3]`, and its name if it is near one that exists."""
    edge = np.concatenate([pixels[:2], pixels[-2:], pixels[:, :2].swapaxes(0, 1),
                           pixels[:, -2:].swapaxes(0, 1)], axis=1)  # fmt: skip
    color = np.median(edge.reshape(-1, 3), axis=0).astype(np.float32)
    away = {name: float(np.hypot.reduce(color - rgb)) for name, rgb in v.BACKGROUNDS.items()}
    name = min(away, key=lambda n: away[n])
    return color, name if away[name] <= BACKGROUND_REACH else None


def blobs(pixels: Array, background: Array, margin: int = 3) -> list[Blob]:
    """Every connected painted piece (8 neighbors), in reading order, with a margin around it."""
    strength = np.abs(pixels - background).max(-1)
    painted = np.pad(strength > np.maximum(PAINTED, PEAK_SHARE * _peaks(strength)), margin)
    pixels = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    strength = np.pad(strength, margin)
    labels, boxes = _label(painted, diagonal=True)
    empty, holes = _label(~painted, diagonal=False)
    labels, closed = _closed(labels, boxes, empty, holes)
    near = _grown(_grown(labels))
    found = []
    for number in np.unique(labels)[1:].tolist():
        y0, x0, y1, x1 = boxes[number - 1]
        part = (slice(y0 - margin, y1 + margin), slice(x0 - margin, x1 + margin))
        label = near[part]
        found.append(
            Blob(
                left=x0 - 2 * margin,
                top=y0 - 2 * margin,
                mask=labels[part] == number,
                filled=closed[part] == number,
                free=label == number,
                pixels=pixels[part],
                strength=strength[part],
            )
        )
    return found


def core(mask: Mask) -> Mask:
    """Without the pixels that touch the outside, corners too; beyond the window is outside."""
    out = np.zeros_like(mask)
    rows = mask[:-2] & mask[1:-1] & mask[2:]
    out[1:-1, 1:-1] = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
    return out


def _label(mask: Mask, diagonal: bool) -> tuple[Labels, list[Box]]:
    """Connected pieces numbered from 1, with their boxes (top, left, bottom, right).

    Works on runs of a row, joined with overlapping runs of the row above by union-find.
    """
    height, width = mask.shape
    change = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = (a.tolist() for a in np.nonzero(change == 1))
    stops = np.nonzero(change == -1)[1].tolist()
    reach = int(diagonal)
    parent = list(range(len(rows)))
    above, first_of_row = 0, 0
    for run, row in enumerate(rows):
        if run == 0 or rows[run - 1] != row:
            above = first_of_row if run and rows[run - 1] == row - 1 else run
            first_of_row = run
        start, stop = starts[run] - reach, stops[run] + reach
        while above < first_of_row and stops[above] <= start:
            above += 1
        at = above
        while at < first_of_row and starts[at] < stop:
            a, b = _root(parent, at), _root(parent, run)
            parent[max(a, b)] = min(a, b)
            at += 1
    return _painted_runs(rows, starts, stops, parent, height, width)


def _root(parent: list[int], run: int) -> int:
    while parent[run] != run:
        parent[run] = run = parent[parent[run]]
    return run


def _painted_runs(
    rows: list[int], starts: list[int], stops: list[int], parent: list[int], height: int, width: int
) -> tuple[Labels, list[Box]]:
    numbers: dict[int, int] = {}
    boxes: list[Box] = []
    labels = np.zeros((height, width), np.int32)
    for run, (row, start, stop) in enumerate(zip(rows, starts, stops, strict=True)):
        root = _root(parent, run)
        number = numbers.get(root)
        if number is None:
            number = numbers[root] = len(boxes) + 1
            boxes.append((row, start, row + 1, stop))
        else:
            top, left, _, right = boxes[number - 1]
            boxes[number - 1] = (top, min(left, start), row + 1, max(right, stop))
        labels[row, start:stop] = number
    return labels, boxes


def _closed(
    labels: Labels, boxes: list[Box], empty: Labels, holes: list[Box]
) -> tuple[Labels, Labels]:
    """Labels with what lies inside a blob made part of it, and the same with holes closed.

    The first run of a piece, in reading order, has the piece that encloses it just above. A
    white stripe within a striped thing may be a piece of its own: it belongs to the thing.
    """
    painted_owner = np.arange(len(boxes) + 1, dtype=np.int32)
    empty_owner = np.zeros(len(holes) + 1, np.int32)
    starts = [(box[0], 0, number) for number, box in enumerate(boxes, 1)]
    starts += [(box[0], 1, number) for number, box in enumerate(holes, 1)]
    for top, is_empty, number in sorted(starts):
        if is_empty:
            if top > 0:
                column = _first(empty[top], number)
                empty_owner[number] = painted_owner[labels[top - 1, column]]
        else:
            around = empty_owner[empty[top - 1, _first(labels[top], number)]]
            painted_owner[number] = around or number
    merged = painted_owner[labels]
    return merged, np.where(labels > 0, merged, empty_owner[empty])


def _first(row: Labels, number: int) -> int:
    return int((row == number).argmax())


def _peaks(strength: Array) -> Array:
    """The largest value up to two pixels away."""
    padded = np.pad(strength, 2)
    rows = np.maximum.reduce([padded[k : k + strength.shape[0]] for k in range(5)])
    return np.maximum.reduce([rows[:, k : k + strength.shape[1]] for k in range(5)])


def _grown(labels: Labels) -> Labels:
    """Each label one pixel larger where nothing is yet."""
    out = labels.copy()
    for view, source in (
        (out[1:], labels[:-1]), (out[:-1], labels[1:]),
        (out[:, 1:], labels[:, :-1]), (out[:, :-1], labels[:, 1:]),
    ):  # fmt: skip
        np.copyto(view, source, where=view == 0)
    return out
