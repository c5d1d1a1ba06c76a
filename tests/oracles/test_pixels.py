"""Pixels beside transformers' processors on Pillow: equal to the last bit, settings taken from the
folder that theirs writes."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from diptych.checkpoints.families.preprocessor import Tower, inputs_of_json
from diptych.foundation.config import from_json, to_json
from diptych.imaging.clip_pictures import clip_image
from diptych.models.inputs import PictureInputs, shown

SMALL_POINTS = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]
EDGES = {"longest_edge": 256}, {"longest_edge": 64}


@dataclass(frozen=True)
class Case:
    make: Callable[[], Any]
    tower: Tower
    narrowest: float = 12.0


def sides(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


CASES = {
    "clip": Case(CLIPImageProcessorPil, Tower(7, 7)),
    "clip, cut smaller": Case(
        partial(CLIPImageProcessorPil, size={"shortest_edge": 77}, crop_size=sides(50)), Tower(3, 3)
    ),
    "dinov2": Case(
        partial(BitImageProcessorPil, size={"shortest_edge": 256}, do_rescale=True), Tower(16, 16)
    ),
    "florence-2": Case(
        partial(CLIPImageProcessorPil, size=sides(96), do_center_crop=False), Tower(3, 3, 1), 50
    ),
    "siglip": Case(SiglipImageProcessorPil, Tower(14, 14), 50),
    "paligemma": Case(partial(SiglipImageProcessorPil, size=sides(448)), Tower(32, 32), 50),
    "vit": Case(ViTImageProcessorPil, Tower(14, 14), 50),
    "vit, plain numbers": Case(
        partial(ViTImageProcessorPil, size=sides(40), do_normalize=False), Tower(2, 2), 50
    ),
    "blip": Case(BlipImageProcessorPil, Tower(1, 32), 50),
    "llava": Case(LlavaImageProcessorPil, Tower(24, 24)),
    "llava, padded": Case(
        partial(LlavaImageProcessorPil, do_pad=True, size={"shortest_edge": 112},
                crop_size=sides(112)), Tower(8, 8), 50
    ),
    "llava-next": Case(
        partial(LlavaNextImageProcessorPil, size={"shortest_edge": 56}, crop_size=sides(56),
                image_grid_pinpoints=SMALL_POINTS), Tower(4, 4), 50
    ),
    "onevision": Case(
        partial(LlavaOnevisionImageProcessorPil, size=sides(56), image_grid_pinpoints=[
            [56 * y, 56 * x] for y in range(1, 7) for x in range(1, 7)
        ]), Tower(4, 4, pooled_above=9), 50
    ),
    "internvl": Case(
        partial(GotOcr2ImageProcessorPil, size=sides(112), crop_to_patches=True), Tower(4, 4), 50
    ),
    # Of one tile by its number: what files say of cutting is not followed (see `preprocessor`).
    "internvl, one tile": Case(
        partial(GotOcr2ImageProcessorPil, size=sides(112), max_patches=1), Tower(4, 4), 50
    ),
    "qwen": Case(
        partial(Qwen2VLImageProcessorPil, size={"shortest_edge": 3136, "longest_edge": 90000}),
        Tower(0, 0), 150,
    ),
    "smolvlm": Case(
        partial(SmolVLMImageProcessorPil, size=EDGES[0], max_image_size=EDGES[1]), Tower(8, 8), 300
    ),
    "smolvlm, whole": Case(
        partial(SmolVLMImageProcessorPil, size=EDGES[0], max_image_size=EDGES[1],
                do_image_splitting=False), Tower(8, 8), 300
    ),
    "idefics3": Case(
        partial(Idefics3ImageProcessorPil, size=EDGES[0], max_image_size=EDGES[1]), Tower(8, 8), 300
    ),
}  # fmt: skip


def pictures(number: int, narrowest: float, seed: int = 0) -> Iterator[NDArray[np.uint8]]:
    """Noise on waves, so that every filter has something to ring at; many sizes."""
    draw, noise = random.Random(seed), np.random.default_rng(seed)
    while number:
        height, width = (round(2 ** draw.uniform(0, 9.2)) for _ in range(2))
        if max(height, width) / min(height, width) > narrowest:
            continue
        y, x = np.mgrid[:height, :width]
        waves = 127 + 120 * np.sin(x / draw.uniform(1, 20) + y / draw.uniform(1, 20))
        levels = waves[..., None] + noise.normal(0, 60, (height, width, 3))
        yield np.clip(levels, 0, 255).astype(np.uint8)
        number -= 1


def settings(made: Any, folder: Path) -> dict[str, Any]:
    """What theirs writes into a folder."""
    made.save_pretrained(folder)
    return json.loads((folder / "preprocessor_config.json").read_text())


def theirs(made: Any, pixels: NDArray[np.uint8]) -> Tensor:
    """[tiles, 3, H, W], or patches."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = made(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    return found[0] if found.ndim == 5 else found


@pytest.mark.parametrize("name", CASES)
def test_pixels_are_equal(name: str, tmp_path: Path):
    case = CASES[name]
    made = case.make()
    inputs = inputs_of_json(settings(made, tmp_path), case.tower, max_visual_tokens=10**6)
    assert from_json(PictureInputs, to_json(inputs)) == inputs
    for pixels in pictures(40, case.narrowest):
        wanted = theirs(made, pixels)
        _, ours = shown(Image.fromarray(pixels), inputs)
        assert ours.dtype == wanted.dtype == torch.float32
        assert torch.equal(ours, wanted), pixels.shape


def test_clips_pictures_are_those_of_the_processor():
    made = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=sides(32))
    for pixels in pictures(40, 12):
        assert torch.equal(clip_image(pixels, 32), theirs(made, pixels)[0])
