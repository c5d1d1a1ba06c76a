"""A picture's tiles as float32, to the last bit as Pillow and the published processors make them.

Pillow resizes on bytes and rounds between its two passes: float filters of the same name are up
to 16 levels away. So everything stays uint8 until the last step, which has only 256 answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.foundation.errors import InvalidValue
from diptych.imaging.pictures import (
    MOST_PIXELS,
    ORIENTATION,
    open_picture,
    read_picture,
    upright_rgb,
)
from diptych.imaging.placing import Placing, Size
from diptych.imaging.plan import TokenPlan

Filter = Literal["bicubic", "bilinear", "lanczos", "nearest", "box", "hamming"]
Three = tuple[float, float, float]
_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
# For `fast`: Pillow shrinks by whole numbers down to `_GAP` times the size, and filters from there;
# a JPEG is decoded at a half, a quarter or an eighth that is at least `_DRAFT` times the size. At
# 1.5 a textured photograph is 1.1 levels off in the mean at most, at 1.0 it would be 2.4.
_GAP, _DRAFT = 2.0, 1.5


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """The numbers that pixels become: (u8 * `rescale` - `mean`) / `deviation` in float32.

    `background`: of margins that are added before resizing; those added after are black.
    `fast`: other pixels, about a level off in the mean: JPEG is decoded at a fraction of its size
    and resized in two steps. Stored with what was computed from it.
    """

    filter: Filter
    mean: Three
    deviation: Three
    rescale: float = 1 / 255
    background: tuple[int, int, int] = (0, 0, 0)
    fast: bool = False

    def __post_init__(self):
        if self.filter not in _FILTERS:
            raise InvalidValue(f"There is no filter {self.filter!r}.", do=f"{', '.join(_FILTERS)}.")
        if min(self.deviation) <= 0 or self.rescale <= 0:
            raise InvalidValue("deviation and rescale must be above 0.")


def mean_color(mean: Three) -> tuple[int, int, int]:
    """The color that becomes about 0, rounded down: LLaVA's margins."""
    red, green, blue = (int(part * 255) for part in mean)
    return red, green, blue


def tiles_of(picture: Image.Image, plan: TokenPlan, how: Preprocess) -> NDArray[np.float32]:
    """[tiles, 3, height, width] in the order of the tower.

    The picture is used as it stands (see `upright_rgb`). With `how.fast` it may be smaller than the
    plan's, as `opened` makes it; else another size is an InvalidValue.
    """
    if picture.size != plan.picture and not (how.fast and smaller(picture.size, plan.picture)):
        (width, height), (x, y) = picture.size, plan.picture
        raise InvalidValue(f"A picture of {width} x {height} was planned as {x} x {y}.")
    canvas = placed(picture, plan.placing, how)
    cuts = np.asarray(canvas)
    found = np.empty((len(plan.tiles), 3, *plan.tile[::-1]), np.float32)
    for tile, into in zip(plan.tiles, found, strict=True):
        if tile.of == "cut":
            left, top, right, bottom = tile.box
            numbers(cuts[top:bottom, left:right], how, into)
        else:
            source = picture if tile.of == "picture" else canvas
            numbers(np.asarray(resized(source, plan.tile, how)), how, into)
    return found


def smaller(size: Size, whole: Size) -> bool:
    """Whether a JPEG's decoder may have made this of the whole: 1, 1/2, 1/4 or 1/8 of it."""
    return any(size == (-(-whole[0] // by), -(-whole[1] // by)) for by in (1, 2, 4, 8))


def numbers(
    pixels: NDArray[np.uint8], how: Preprocess, into: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """[H, W, 3] -> [3, H, W], written `into` what is given."""
    table = _table(how.rescale, how.mean, how.deviation)
    found = np.empty((3, *pixels.shape[:2]), np.float32) if into is None else into
    for channel in range(3):
        np.take(table[channel], pixels[..., channel], out=found[channel], mode="clip")
    return found


@cache
def _table(rescale: float, mean: Three, deviation: Three) -> NDArray[np.float32]:
    """[3, 256]: what each level becomes; rounded to float32 after each operation."""
    levels = (np.arange(256, dtype=np.float64) * rescale).astype(np.float32)
    middle, width = (np.array(three, np.float32)[:, None] for three in (mean, deviation))
    return (levels - middle) / width


def placed(picture: Image.Image, placing: Placing, how: Preprocess) -> Image.Image:
    """The canvas: resized, cut, with margins."""
    current = _framed(picture, placing, how)
    for size in placing.scales[:-1]:
        current = resized(current, size, how)
    last, (left, top), canvas = placing.scales[-1], placing.offset, placing.canvas
    if (left, top) == (0, 0) and last == canvas:
        return resized(current, last, how)
    # Pillow's own box would be rounded to float32, and other pixels. Outside it is black.
    return resized(current, last, how).crop((-left, -top, canvas[0] - left, canvas[1] - top))


def _framed(picture: Image.Image, placing: Placing, how: Preprocess) -> Image.Image:
    """The picture with the margins that its frame has, in the scale in which it was decoded."""
    if placing.frame == (0, 0, *placing.picture):
        return picture
    scale = picture.width / placing.picture[0]
    left, top, right, bottom = (round(side * scale) for side in placing.frame)
    framed = Image.new("RGB", (right - left, bottom - top), how.background)
    framed.paste(picture, (-left, -top))
    return framed


def resized(picture: Image.Image, size: Size, how: Preprocess) -> Image.Image:
    """By Pillow, width and height. Raises InvalidValue above 50 million pixels."""
    if picture.size == size:
        return picture
    if size[0] * size[1] > MOST_PIXELS:
        raise InvalidValue(
            f"A picture of {picture.width} x {picture.height} pixels is too narrow: it would "
            f"become {size[0]} x {size[1]}.",
            do="Cut it, or add margins.",
        )
    return picture.resize(size, _FILTERS[how.filter], reducing_gap=_GAP if how.fast else None)


def merged_patches(
    image: NDArray[np.float32], patch: int, merge: int, copies: int
) -> NDArray[np.float32]:
    """[C, H, W] -> [patches, C * copies * patch * patch], those of one visual token (`merge` x
    `merge` patches) one after another, row by row (Qwen2-VL)."""
    channels, height, width = image.shape
    block = patch * merge
    down, across = height // block, width // block
    blocks = image.reshape(channels, down, merge, patch, across, merge, patch)
    ordered = blocks.transpose(1, 4, 2, 5, 0, 3, 6)[:, :, :, :, :, None]
    shape = (*ordered.shape[:5], copies, patch, patch)
    return np.broadcast_to(ordered, shape).reshape(down * across * merge**2, -1)


def opened(
    source: str | os.PathLike[str] | bytes,
    planner: Callable[[int, int], TokenPlan],
    how: Preprocess,
) -> tuple[Image.Image, TokenPlan]:
    """A file, or its bytes, for `tiles_of`: upright RGB, and its plan by `planner(height, width)`.

    With `how.fast` a JPEG is decoded at the smallest size that leaves the filter enough. Raises
    what `read_picture` and the planner raise.
    """
    plans: list[TokenPlan] = []

    def before(picture: Image.Image) -> None:
        lying = picture.getexif().get(ORIENTATION, 1) >= 5
        width, height = picture.size[::-1] if lying else picture.size
        plans.append(planner(height, width))
        if how.fast:
            wide, high = _enough(plans[0])
            picture.draft(None, (high, wide) if lying else (wide, high))

    if isinstance(source, bytes):
        picture = upright_rgb(open_picture(source, before))
    else:
        picture = read_picture(source, before)
    return picture, plans[0]


def _enough(plan: TokenPlan) -> Size:
    """The least size of the whole picture that is not enlarged by anything in the plan."""
    left, top, right, bottom = plan.placing.frame
    scaled, tile = plan.placing.scales[0], plan.tile
    whole = any(part.of == "picture" for part in plan.tiles)
    width = max(scaled[0] * plan.picture[0] / (right - left), tile[0] if whole else 0)
    height = max(scaled[1] * plan.picture[1] / (bottom - top), tile[1] if whole else 0)
    return ceil(width * _DRAFT), ceil(height * _DRAFT)
