"""preprocessor_config.json: published ones are read, and what is not built is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from diptych.checkpoints.families.preprocessor import KINDS, Tower, inputs_of_json
from diptych.foundation.errors import DiptychError, Unreadable
from diptych.imaging.pixels import Preprocess, mean_color
from diptych.models.inputs import PictureInputs, Spec
from diptych.models.internvl.inputs import INTERNVL_3
from diptych.models.llava.inputs import FLORENCE_2, LLAVA_1_5, LLAVA_NEXT, ONEVISION, FixedSpec
from diptych.models.paligemma.inputs import PALIGEMMA_224
from diptych.models.qwen_vl.inputs import NativeSpec
from diptych.models.smolvlm.inputs import SMOLVLM

CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


# As the folders on the hub have them, what was said of the library left out.
PUBLISHED: dict[str, tuple[dict[str, Any], Tower, Spec, str]] = {
    "llava-1.5-7b-hf": (
        {"crop_size": square(336), "do_center_crop": True, "do_convert_rgb": True,
         "do_normalize": True, "do_rescale": True, "do_resize": True, **CLIP,
         "image_processor_type": "CLIPImageProcessor", "processor_class": "LlavaProcessor",
         "resample": 3, "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 336}},
        Tower(24, 24), LLAVA_1_5, "bicubic",
    ),
    "clip of 2021": (
        {"crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True,
         "feature_extractor_type": "CLIPFeatureExtractor", **CLIP, "resample": 3, "size": 224},
        Tower(7, 7), FixedSpec(
            width=224, height=224, rows=7, columns=7, fit="middle", shortest=224
        ), "bicubic",
    ),
    "llava-v1.6": (
        {"aspect_ratio_setting": None, "crop_size": square(336), "do_center_crop": True,
         "do_pad": True, "image_grid_pinpoints": [
             [336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
         "image_processor_type": "LlavaNextImageProcessor", **CLIP, "resample": 3,
         "size": {"shortest_edge": 336}},
        Tower(24, 24), LLAVA_NEXT, "bicubic",
    ),
    "llava-onevision": (
        {"do_pad": True, "image_processor_type": "LlavaOnevisionImageProcessor", **HALF,
         "resample": 3, "size": square(384)},
        Tower(27, 27, pooled_above=9), ONEVISION, "bicubic",
    ),
    "internvl3": (
        {"crop_size": None, "crop_to_patches": True, "data_format": "channels_first",
         "image_processor_type": "GotOcr2ImageProcessorFast", **IMAGENET, "max_patches": 12,
         "min_patches": 1, "resample": 3, "return_tensors": None, "size": square(448)},
        Tower(16, 16), INTERNVL_3, "bicubic",
    ),
    "smolvlm": (
        {"do_image_splitting": True, "do_pad": True, **HALF, "resample": 1,
         "image_processor_type": "SmolVLMImageProcessor", "max_image_size": {"longest_edge": 512},
         "size": {"longest_edge": 2048},
         "video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 2048}}},
        Tower(8, 8), SMOLVLM, "lanczos",
    ),
    "qwen2-vl": (
        {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2,
         "merge_size": 2, **CLIP, "image_processor_type": "Qwen2VLImageProcessor"},
        Tower(0, 0), NativeSpec(max_pixels=12845056), "bicubic",
    ),
    "paligemma-3b-224": (
        {"do_convert_rgb": None, "image_processor_type": "SiglipImageProcessor",
         "image_seq_length": 256, **HALF, "resample": 3, "size": square(224)},
        Tower(16, 16), PALIGEMMA_224, "bicubic",
    ),
    "florence-2": (
        {"crop_size": square(768), "do_center_crop": False, "image_seq_length": 577, **IMAGENET,
         "image_processor_type": "CLIPImageProcessor", "resample": 3, "size": square(768)},
        Tower(24, 24, 1), FLORENCE_2, "bicubic",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files(name: str):
    content, tower, spec, kernel = PUBLISHED[name]
    mean, deviation = (tuple(content[key]) for key in ("image_mean", "image_std"))
    pixels = Preprocess(filter=kernel, mean=mean, deviation=deviation)
    assert inputs_of_json(content, tower) == PictureInputs(spec=spec, pixels=pixels)


def test_margins_have_the_mean_color():
    content = {**PUBLISHED["llava-1.5-7b-hf"][0], "do_pad": True}
    content["image_processor_type"] = "LlavaImageProcessor"
    inputs = inputs_of_json(content, Tower(24, 24))
    assert isinstance(inputs.spec, FixedSpec) and inputs.spec.fit == "square"
    assert inputs.pixels.background == mean_color(inputs.pixels.mean) == (122, 116, 104)


@pytest.mark.parametrize("kind", KINDS)
def test_any_other_setting_is_refused_by_name(kind: str):
    content: dict[str, Any] = {"image_processor_type": f"{kind}ImageProcessor"}
    if kind == "LlavaNext":  # its default size does not divide its default canvases
        content["size"] = {"shortest_edge": 336}
    tower = Tower(4, 4)
    assert inputs_of_json(content, tower)
    with pytest.raises(Unreadable, match=r"sharpen = 0\.5"):
        inputs_of_json({**content, "sharpen": 0.5}, tower)
    with pytest.raises(Unreadable, match="do_resize = False"):
        inputs_of_json({**content, "do_resize": False}, tower)
    with pytest.raises(Unreadable, match="number 7"):
        inputs_of_json({**content, "resample": 7}, tower)
    with pytest.raises(Unreadable, match="size = "):
        inputs_of_json({**content, "size": {"area": 9}}, tower)


REFUSED = {
    "Pixtral": ({}, "PixtralImageProcessor"),
    "CLIP": ({"do_pad": True}, "do_pad = True"),
    "Siglip": ({"image_seq_length": 255}, "counts 255 visual tokens, its network makes 16"),
    "ViT": ({"do_center_crop": True}, "do_center_crop = True"),
    "Llava": ({"do_pad": True, "size": {"shortest_edge": 300}}, "square of 300 cut to 224"),
    "LlavaNext": ({"crop_size": square(336)}, "Tiles of 224 cut to"),
    "GotOcr2": ({"crop_to_patches": True, "size": {"height": 2, "width": 3}}, "size = "),
    "Idefics3": ({"max_image_size": {"longest_edge": 500}}, "no multiple of tiles of 500"),
    "Bit": ({"image_std": [0.5, 0, 0.5]}, "above 0"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_built_is_refused(kind: str):
    extra, words = REFUSED[kind]
    default = {"crop_size": square(224)} if kind == "Llava" else {}
    content = {"image_processor_type": f"{kind}ImageProcessor", **default, **extra}
    with pytest.raises(DiptychError, match=words):
        inputs_of_json(content, Tower(4, 4))
