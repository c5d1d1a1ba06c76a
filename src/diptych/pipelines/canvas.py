"""A larger canvas: a picture with room around it to be painted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.foundation.errors import InvalidValue


def extended(
    picture: Image.Image, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0,
    *, multiple: int = 8, soft: int = 8,
) -> tuple[Image.Image, Image.Image]:  # fmt: skip
    """The picture on a larger canvas and the mask of what is to be painted, for `init` and `mask`.

    The sides are pixels; the canvas is rounded up, to the right and below, to a `multiple`. The
    room is filled with the picture mirrored at its borders, which is a better beginning than a
    color, and `soft` pixels inside the border are painted with it, so that no seam is left. Raises
    InvalidValue for sides below 0 or nothing at all.
    """
    sides = (left, top, right, bottom)
    if min(sides) < 0 or not any(sides):
        raise InvalidValue(f"{sides} is no room around a picture.", do="Give pixels: 0 or more.")
    width, height = picture.width + left + right, picture.height + top + bottom
    right += -width % multiple
    bottom += -height % multiple
    pixels = np.asarray(picture.convert("RGB"))
    rows = _mirrored(len(pixels), top, bottom)
    columns = _mirrored(pixels.shape[1], left, right)
    canvas = pixels[rows][:, columns]
    mask = np.full(canvas.shape[:2], 255, np.uint8)
    inside = [slice(0, 0), slice(0, 0)]
    for axis, (before, length, after) in enumerate(
        ((top, picture.height, bottom), (left, picture.width, right))
    ):
        edge = min(soft, (length - 1) // 2)
        inside[axis] = slice(
            before + (edge if before else 0), before + length - (edge if after else 0)
        )
    mask[inside[0], inside[1]] = 0
    return Image.fromarray(canvas), Image.fromarray(mask)


def _mirrored(length: int, before: int, after: int) -> NDArray[np.intp]:
    """Places of a row or column with its mirror images around it."""
    places = np.arange(-before, length + after)
    period = np.abs((places % (2 * length)) - length + 0.5) - 0.5  # a triangle wave
    return (length - 1 - period).astype(np.intp)
