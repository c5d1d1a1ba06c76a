"""A map over a picture, for eyes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SMALL = 384  # pixels: smaller pictures are shown enlarged
_GREY = np.array([0.299, 0.587, 0.114], np.float32)
_LINE = np.array([255, 170, 0], np.float32)


def overlaid(picture: Image.Image, map_: NDArray[np.float32]) -> Image.Image:
    """An RGB picture that keeps its colors where the map [H, W] in 0..1 is high and is dark and
    grey where it is low, with a line around what is above one half. A picture below 384 pixels is
    enlarged by a whole number."""
    times = max(1, -(-_SMALL // max(picture.size)))
    size = picture.width * times, picture.height * times
    shown = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.NEAREST), np.float32)
    wide = Image.fromarray(map_.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    share = np.asarray(wide, np.float32).clip(0, 1)
    light = np.sqrt(share)[..., None]
    dark = (shown @ _GREY)[..., None] * 0.3
    made = dark + light * (shown - dark)
    made[_edge(share > 0.5, max(1, max(size) // 128))] = _LINE
    return Image.fromarray(made.clip(0, 255).round().astype(np.uint8))


def _edge(inside: NDArray[np.bool_], wide: int) -> NDArray[np.bool_]:
    """The `wide` outermost pixels of what is inside."""
    core = inside.copy()
    for _ in range(wide):
        framed = np.pad(core, 1, constant_values=True)
        core = core & framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    return inside & ~core
