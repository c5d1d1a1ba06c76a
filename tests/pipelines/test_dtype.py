"""Fewer bits in the weights: nearly the same picture, the same words; a wrong name is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from diptych.data.scenes.render import render
from diptych.data.scenes.world import Scene, World
from diptych.foundation.errors import NotFound
from diptych.pipelines.device import DTYPES, dtype_of
from diptych.pipelines.dual_front import DualEncoder
from diptych.pipelines.image_to_text import respond
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.reader_front import ImageToText
from tests.tiny_models import tiny_painter

PROMPTS = ["a red circle", "two large green stars on a mint background", "a blue moon"]
COARSE = [pytest.param(kind, id=str(kind)) for kind in ("bfloat16", "float16", torch.bfloat16)]


def painted(model: TextToImage, seed: int) -> NDArray[np.int64]:
    pictures = model(PROMPTS, seed=seed)
    assert isinstance(pictures, list)
    return np.stack([np.asarray(picture).astype(int) for picture in pictures])


@pytest.mark.parametrize("kind", COARSE)
def test_a_picture_is_nearly_the_same(kind: str | torch.dtype, tmp_path: Path):
    folder = str(tiny_painter(tmp_path))
    fine, coarse = TextToImage.load(folder), TextToImage.load(folder, dtype=kind)
    weights = [*coarse.networks.painter.parameters(), *coarse.networks.autoencoder.parameters()]
    assert {p.dtype for p in weights} == {dtype_of(kind, torch.device("cpu"))}
    wanted, got, other = painted(fine, 1), painted(coarse, 1), painted(fine, 2)
    assert not np.array_equal(wanted, got), "the dtype changed nothing"
    assert np.abs(wanted - got).mean() < np.abs(wanted - other).mean() / 20


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_easy_pictures_get_the_same_words_and_about_the_same_scores(kind: str):
    easy = [scene for scene in map(_scene, range(40)) if len(scene.things) == 1][:4]
    pictures = [render(scene) for scene in easy]
    fine, coarse = (
        respond(ImageToText.load("scenes-i2t", dtype=dtype).networks, pictures, ["caption"] * 4)
        for dtype in (None, kind)
    )
    assert [answer.text for answer in fine] == [answer.text for answer in coarse]
    for one, other in zip(fine, coarse, strict=True):
        assert one.logprobs != other.logprobs
        assert one.score == pytest.approx(other.score, abs=0.03)


def _scene(index: int) -> Scene:
    return World(split="tune").scene(21, index)


def test_a_cpu_computes_in_float32_unless_told_otherwise():
    cpu = torch.device("cpu")
    assert dtype_of(None, cpu) == torch.float32
    for name, kind in DTYPES.items():
        assert dtype_of(name, cpu) == dtype_of(kind, cpu) == kind


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_embeddings_are_nearly_the_same(kind: str):
    red, blue = (Image.new("RGB", (64, 64), color) for color in ("red", "blue"))
    fine, coarse = (DualEncoder.load("scenes-clip", dtype=dtype) for dtype in (None, kind))
    for one, other in (
        (fine.embed_pictures([red, blue]), coarse.embed_pictures([red, blue])),
        (fine.embed_texts(["a red star"]), coarse.embed_texts(["a red star"])),
    ):
        assert not np.array_equal(one, other)
        assert ((one * other).sum(1) > 0.99).all()


def test_a_wrong_dtype_names_the_nearest():
    for wrong, near in (("float23", "float32"), ("bfloat", "bfloat16"), (torch.float64, "float")):
        with pytest.raises(NotFound, match=near):
            TextToImage.load("scenes-t2i", dtype=wrong)
    with pytest.raises(NotFound, match="bfloat16"):
        ImageToText.load("scenes-i2t", dtype="bf16")
