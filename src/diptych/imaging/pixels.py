"""A picture's pixels as a vision tower was shown them: scaled by Pillow in bytes, then numbers.

Pillow rounds between its two passes, and what a tower learnt has that rounding: filters of other
libraries are off by up to 10 of 255 levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diptych.imaging.plan import Canvas, TokenPlan

FILTERS = {
    "nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS,
    "hamming": Image.Resampling.HAMMING, "box": Image.Resampling.BOX,
}  # fmt: skip
Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """`resample`: a name of `FILTERS`. Values are (pixel / 255 - mean) / deviation, of red, green
    and blue. `fill` of what a picture does not cover, 0..255. `fast` scales by whole numbers first:
    near, not equal."""

    resample: str = "bicubic"
    mean: Triple = (0.48145466, 0.4578275, 0.40821073)
    deviation: Triple = (0.26862954, 0.26130258, 0.27577711)
    fill: tuple[int, int, int] = (0, 0, 0)
    fast: bool = False


def tiles_of(picture: Image.Image, plan: TokenPlan, how: Preprocess) -> Tensor:
    """An RGB picture of the plan's size -> its tiles [T, 3, S, S] float32."""
    canvases = [painted(picture, canvas, how) for canvas in plan.canvases]
    cut = np.stack([np.asarray(canvases[tile.canvas].crop(tile.box)) for tile in plan.tiles])
    values = torch.tensor(cut.astype(np.float32)).div_(255)
    values.sub_(torch.tensor(how.mean)).div_(torch.tensor(how.deviation))
    return values.permute(0, 3, 1, 2).contiguous()


def painted(picture: Image.Image, canvas: Canvas, how: Preprocess) -> Image.Image:
    """The picture scaled and laid on a canvas."""
    for height, width in canvas.resizes:
        if picture.size != (width, height):
            gap = 2.0 if how.fast else None
            picture = picture.resize((width, height), FILTERS[how.resample], reducing_gap=gap)
    height, width = canvas.size
    if (canvas.left, canvas.top) == (0, 0) and picture.size == (width, height):
        return picture
    whole = Image.new("RGB", (width, height), how.fill)
    whole.paste(picture, (canvas.left, canvas.top))
    return whole
