"""Tiles and their count against the processors of transformers: equal to the pixel."""

from __future__ import annotations

import importlib
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.imaging.pixels import Preprocess, tiles_of
from diptych.imaging.plan import TokenPlan
from diptych.models.internvl.inputs import TilesInputs, tiles
from diptych.models.llava.inputs import AnyresInputs, FixedInputs, anyres, fixed
from diptych.models.smolvlm.inputs import SplitInputs, split_grid

CLIP = Preprocess()
HALF = Preprocess(mean=(0.5, 0.5, 0.5), deviation=(0.5, 0.5, 0.5))
NET = Preprocess(mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225))
NEXT = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
ONEVISION = tuple((a * 384, b * 384) for a in range(1, 7) for b in range(1, 7))


def theirs(module: str, name: str, **said: Any) -> Any:
    place = importlib.import_module(f"transformers.models.{module}.image_processing_pil_{module}")
    return getattr(place, f"{name}ImageProcessorPil")(**said)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Texture and noise: every level of every filter shows."""
    draw = np.random.default_rng(seed)
    waves = np.sin(np.arange(width)[None, :, None] / 3 + np.arange(height)[:, None, None] / 7)
    noisy = 128 + 90 * waves + 40 * draw.standard_normal((height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


SIZES = [(480, 641), (37, 500), (336, 336), (900, 610), (21, 30), (1200, 300)]
CASES: dict[str, tuple[Any, Any, Preprocess]] = {
    "llava": (
        lambda: theirs("llava", "Llava", size={"shortest_edge": 336},
                       crop_size={"height": 336, "width": 336}),
        lambda h, w: fixed(h, w, FixedInputs()), CLIP,
    ),
    "llava_next": (
        lambda: theirs("llava_next", "LlavaNext", size={"shortest_edge": 336},
                       crop_size={"height": 336, "width": 336}),
        lambda h, w: anyres(h, w, AnyresInputs(shapes=NEXT)), CLIP,
    ),
    "llava_onevision": (
        lambda: theirs("llava_onevision", "LlavaOnevision"),
        lambda h, w: anyres(h, w, AnyresInputs(shapes=ONEVISION, side=384, grid=27, most=9)), CLIP,
    ),
    "internvl": (
        lambda: theirs("got_ocr2", "GotOcr2", crop_to_patches=True, max_patches=12,
                       size={"height": 448, "width": 448},
                       image_mean=list(NET.mean), image_std=list(NET.deviation)),
        lambda h, w: tiles(h, w, TilesInputs()), NET,
    ),
    "idefics3": (
        lambda: theirs("idefics3", "Idefics3", size={"longest_edge": 1024},
                       max_image_size={"longest_edge": 256}, do_pad=False),
        lambda h, w: split_grid(h, w, SplitInputs(side=256, longest=1024)),
        Preprocess(resample="lanczos", mean=HALF.mean, deviation=HALF.deviation),
    ),
    "idefics3 whole": (
        lambda: theirs("idefics3", "Idefics3", size={"longest_edge": 1024}, do_pad=False,
                       max_image_size={"longest_edge": 256}, do_image_splitting=False),
        lambda h, w: split_grid(h, w, SplitInputs(side=256, longest=1024, split=False)),
        Preprocess(resample="lanczos", mean=HALF.mean, deviation=HALF.deviation),
    ),
    "paligemma": (
        lambda: theirs("siglip", "Siglip", size={"height": 224, "width": 224}),
        lambda h, w: fixed(h, w, FixedInputs(side=224, grid=16, fit="squash")), HALF,
    ),
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CASES)
def test_pixels(name: str, size: tuple[int, int]) -> None:
    make, plan_of, how = CASES[name]
    one = picture(*size)
    processor = make()
    if "idefics3" in name:
        wanted = processor([[one]], return_tensors="np")["pixel_values"]
    else:
        wanted = processor(one, return_tensors="np")["pixel_values"]
    plan: TokenPlan = plan_of(one.height, one.width)
    if name == "llava_onevision":
        plan = plan_of(one.height, one.width)
        how = Preprocess(mean=tuple(processor.image_mean), deviation=tuple(processor.image_std))
    found = tiles_of(one, plan, how).numpy()
    wanted = np.asarray(wanted).reshape(-1, *found.shape[1:])
    assert found.shape == wanted.shape
    assert np.array_equal(found, wanted)


def sizes(count: int, seed: int, most: int = 4000) -> list[tuple[int, int]]:
    draw = Random(seed)
    return [(int(most ** draw.random()) + 8, int(most ** draw.random()) + 8) for _ in range(count)]


def test_llava_next_counts() -> None:
    from transformers import LlavaNextConfig
    from transformers.models.llava_next import modeling_llava_next as theirs_of

    spec = AnyresInputs(shapes=NEXT)
    shapes = LlavaNextConfig().image_grid_pinpoints
    assert [list(shape) for shape in NEXT] == shapes
    for height, width in sizes(2000, 1):
        size = torch.tensor([[height, width]])
        down, across = theirs_of.get_anyres_image_grid_shape((height, width), shapes, 336)
        wide = torch.zeros(1, 24 * down, 24 * across)
        inside = theirs_of.unpad_image(wide, size[0])
        wanted = 576 + inside.shape[1] * (inside.shape[2] + 1)
        assert anyres(height, width, spec).count == wanted, (height, width)


def test_onevision_counts() -> None:
    from transformers.models.llava_onevision import processing_llava_onevision as theirs_of

    class Said(theirs_of.LlavaOnevisionProcessor):
        """Only what counts."""

        def __init__(self) -> None:
            self.num_image_tokens, self.vision_feature_select_strategy = 729, "full"
            self.vision_aspect_ratio = "anyres_max_9"

            class Sizes:
                image_grid_pinpoints = ONEVISION

            self.image_processor = Sizes()

    counter = Said()
    spec = AnyresInputs(shapes=ONEVISION, side=384, grid=27, most=9)
    for height, width in sizes(2000, 2):
        wanted = counter._get_number_of_features(height, width, 384, 384)
        assert anyres(height, width, spec).count == wanted, (height, width)


def test_internvl_counts() -> None:
    processor = CASES["internvl"][0]()
    for height, width in sizes(2000, 3):
        count = processor.get_number_of_image_patches(height, width, {})
        plan = tiles(height, width, TilesInputs())
        assert (len(plan.tiles), plan.count) == (count, 256 * count), (height, width)


def test_smolvlm_counts() -> None:
    processor = theirs(
        "idefics3", "Idefics3", size={"longest_edge": 2048}, max_image_size={"longest_edge": 512}
    )
    for height, width in sizes(2000, 4):
        count, _, _ = processor.get_number_of_image_patches(height, width, {})
        plan = split_grid(height, width, SplitInputs())
        assert (len(plan.tiles), plan.count) == (count, 64 * count), (height, width)


def test_smolvlm_prompts() -> None:
    from types import SimpleNamespace

    from transformers.models.idefics3.processing_idefics3 import Idefics3Processor

    words = SimpleNamespace(
        image_token="<image>", fake_image_token="<fake_token_around_image>",
        global_image_token="<global-img>", global_image_tag="<global-img>", image_seq_len=64,
    )  # fmt: skip
    for height, width in [(480, 640), (512, 512), (900, 300)]:
        plan = split_grid(height, width, SplitInputs())
        down = len({tile.box[1] for tile in plan.tiles[:-1]})
        across = len({tile.box[0] for tile in plan.tiles[:-1]})
        grid = {"rows": [[down]], "cols": [[across]]}
        wanted = Idefics3Processor.replace_image_token(words, grid, 0)
        assert plan.text("<image>") == wanted
    whole = split_grid(480, 640, SplitInputs(split=False))
    grid = {"rows": [[0]], "cols": [[0]]}
    assert whole.text("<image>") == Idefics3Processor.replace_image_token(words, grid, 0)
