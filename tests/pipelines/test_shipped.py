"""The models in the package: whole, small, and able to do what their cards say at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from PIL import Image

from diptych import DualEncoder, ImageToText, TextToImage
from diptych.data.scenes.captions import short
from diptych.data.scenes.judge import check
from diptych.data.scenes.render import render
from diptych.data.scenes.world import World
from diptych.evaluation.scenes.retrieval import retrieval_scores
from diptych.imaging.pictures import to_square
from diptych.pipelines.image_to_text import respond
from diptych.pipelines.reference import SHIPPED, shipped_folder

MOST_BYTES = 24_000_000
SCORED = [name for name in SHIPPED if (shipped_folder(name) / "scores.json").exists()]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_has_weights_and_a_card(name: str):
    folder = shipped_folder(name)
    card = (folder / "card.md").read_text()
    assert list(folder.rglob("*.safetensors"))
    for part in ("Data", "Training", "Scores", "Make it again"):
        assert f"## {part}" in card


@pytest.mark.parametrize("name", SCORED)
def test_the_card_says_the_scores_that_were_printed(name: str):
    folder = shipped_folder(name)
    scores, card = (
        json.loads((folder / "scores.json").read_text()),
        (folder / "card.md").read_text(),
    )
    shares = list(_shares(scores))
    assert shares
    for score in shares:
        value, low, high = (f"{100 * score[key]:.1f}" for key in ("value", "low", "high"))
        assert f"{value} % ({low} to {high}, n = {score['n']})" in card


def _shares(scores: dict[str, Any]) -> Iterator[dict[str, float]]:
    for value in scores.values():
        if isinstance(value, dict):
            yield from [value] if "low" in value else _shares(value)


def test_all_weights_together_are_small():
    sizes = [
        path.stat().st_size
        for name in SHIPPED
        for path in shipped_folder(name).rglob("*.safetensors")
    ]
    assert sum(sizes) <= MOST_BYTES


def test_the_reader_sees_what_is_there():
    reader = ImageToText.load("scenes-i2t")
    scenes = [World(split="tune").scene(21, index) for index in range(40)]
    pictures = [render(scene) for scene in scenes]
    grounds = respond(reader.networks, pictures, ["what color is the background?"] * len(scenes))
    right = [answer.text == scene.background for answer, scene in zip(grounds, scenes, strict=True)]
    assert sum(right) >= 38
    counts = respond(reader.networks, pictures, ["how many objects are there?"] * len(scenes))
    right = [
        answer.text == str(len(scene.things)) for answer, scene in zip(counts, scenes, strict=True)
    ]
    assert sum(right) >= 30
    assert all(answer.confidence is not None for answer in grounds)


def test_the_dual_encoder_finds_what_is_asked():
    encoder = DualEncoder.load("scenes-clip")
    scores = retrieval_scores(encoder.networks, "tune", seed=21, count=60)
    assert min(scores.values()) >= 0.8
    assert sum(p.stat().st_size for p in shipped_folder("scenes-clip").rglob("*.safetensors")) < 4e6
    scene = World(split="tune").scene(21, 0)
    pictures = [render(World(split="tune").scene(21, index)) for index in range(8)]
    asked = [short(scene, Random(1)), "a black moon and five orange hearts"]
    near = encoder.similarity([Image.fromarray(one) for one in pictures], asked)
    assert near.shape == (8, 2) and near[:, 0].argmax() == 0 and near[0, 0] > near[0, 1]


def test_the_painter_paints_what_is_asked():
    painter = TextToImage.load("scenes-t2i")
    prompts = ["a large cyan triangle", "a large pink diamond", "a medium blue square"] * 4
    pictures = painter(prompts, seed=1)
    assert isinstance(pictures, list)
    seen = [check(to_square(p, 64), text).seen for p, text in zip(pictures, prompts, strict=True)]
    colors = [prompt.split()[2] for prompt in prompts]
    painted = [
        any(thing.color == color for thing in one.things)
        for one, color in zip(seen, colors, strict=True)
    ]
    assert sum(painted) >= 6
    alone = painter(prompts[0], seed=1)
    assert alone.tobytes() == painter(prompts[0], seed=1).tobytes()
