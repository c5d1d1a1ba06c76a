"""Pictures of one fixed, square size, as the towers of CLIP and SigLIP were shown them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diptych.foundation.errors import InvalidValue

Filter = Literal["bicubic", "bilinear", "lanczos"]
Three = tuple[float, float, float]
FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class FixedPictures:
    """`size` of a side in pixels. `short`: what the shorter side is scaled to before the middle is
    cut out; 0: the whole picture is squeezed into the square. Numbers become (u8 / 255 - `mean`) /
    `deviation`."""

    size: int = 224
    short: int = 0
    filter: Filter = "bicubic"
    mean: Three = (0.5, 0.5, 0.5)
    deviation: Three = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if self.filter not in FILTERS:
            raise InvalidValue(f"There is no filter {self.filter!r}.", do=f"{', '.join(FILTERS)}.")
        if self.short and self.short < self.size:
            raise InvalidValue(
                f"No {self.size} x {self.size} can be cut out of {self.short} pixels.",
                do="`short` is at least `size`.",
            )


def clip_pictures(size: int) -> FixedPictures:
    """As CLIP was trained (Radford et al., 2021)."""
    return FixedPictures(size=size, short=size, mean=CLIP_MEAN, deviation=CLIP_DEVIATION)


def fixed_image(picture: Image.Image, how: FixedPictures) -> Tensor:
    """An RGB picture -> [3, size, size] float32, to the bit as the published processors make it:
    Pillow resizes bytes, and rounds between its two passes."""
    values = torch.tensor(np.asarray(_fitted(picture, how), np.float32)) / 255
    return ((values - torch.tensor(how.mean)) / torch.tensor(how.deviation)).permute(2, 0, 1)


def _fitted(picture: Image.Image, how: FixedPictures) -> Image.Image:
    size, filter = how.size, FILTERS[how.filter]
    if not how.short:
        return picture.resize((size, size), filter)
    short = min(picture.size)
    scaled = (int(how.short * picture.width / short), int(how.short * picture.height / short))
    image = picture.resize(scaled, filter)
    left, top = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    return image.crop((left, top, left + size, top + size))
