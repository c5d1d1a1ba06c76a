"""Pictures as CLIP's encoders were shown them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diptych.imaging.fixed_pictures import clip_pictures, fixed_image


def clip_image(picture: NDArray[np.uint8], size: int) -> Tensor:
    """picture [H, W, 3] -> [3, size, size] float32: the shorter side scaled (bicubic, by Pillow),
    the middle cut out, then CLIP's mean and deviation (Radford et al., 2021)."""
    return fixed_image(Image.fromarray(picture), clip_pictures(size))
