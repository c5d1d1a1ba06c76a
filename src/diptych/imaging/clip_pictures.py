"""Pictures as CLIP's encoders were shown them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diptych.imaging.pixels import Preprocess, numbers, placed
from diptych.imaging.placing import middle

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
CLIP = Preprocess(filter="bicubic", mean=MEAN, deviation=DEVIATION)


def clip_image(picture: NDArray[np.uint8], size: int) -> Tensor:
    """picture [H, W, 3] -> [3, size, size] float32: the shorter side scaled (bicubic, by Pillow),
    the middle cut out, then CLIP's mean and deviation (Radford et al., 2021)."""
    height, width, _ = picture.shape
    placing = middle((width, height), size, (size, size))
    cut = placed(Image.fromarray(picture), placing, CLIP)
    return torch.tensor(numbers(np.asarray(cut), CLIP))
