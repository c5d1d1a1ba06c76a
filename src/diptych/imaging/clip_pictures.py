"""Pictures as CLIP's encoders were shown them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def clip_image(picture: NDArray[np.uint8], size: int) -> Tensor:
    """picture [H, W, 3] -> [3, size, size] float32: the shorter side scaled (bicubic, by Pillow),
    the middle cut out, then CLIP's mean and deviation (Radford et al., 2021)."""
    height, width, _ = picture.shape
    short = min(height, width)
    scaled = (int(size * width / short), int(size * height / short))
    image = Image.fromarray(picture).resize(scaled, Image.Resampling.BICUBIC)
    left, top = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    cut = image.crop((left, top, left + size, top + size))
    values = torch.tensor(np.asarray(cut, np.float32)) / 255
    return ((values - torch.tensor(MEAN)) / torch.tensor(DEVIATION)).permute(2, 0, 1)
