"""Batches of `scenes-clip`: functions of an index, near to each other, nothing judged in them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diptych.checkpoints.folder import write_network
from diptych.data.scenes.vocabulary import pair_split
from diptych.foundation.errors import InvalidValue
from diptych.models.dual_encoder import DualEncoderConfig
from diptych.models.text_encoder import TextEncoder, TextEncoderConfig
from diptych.models.vision_language import VisionConfig
from diptych.pipelines.dual_front import DualEncoder
from diptych.pipelines.folders import read_image_to_text
from diptych.recipes.scenes_clip import LONGEST, ScenesClip, captioned_scenes, near_scenes
from diptych.recipes.scenes_words import scenes_tokenizer
from diptych.training.loop import train
from tests.tiny_models import tiny_dual_encoder, tiny_reader


def test_a_batch_is_a_function_of_its_index():
    recipe, tokenizer = ScenesClip(batch=24), scenes_tokenizer()
    first, again, other = (captioned_scenes(recipe, tokenizer, index) for index in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["image"], other["image"])
    assert first["true"].diagonal().all() and tokenizer.unknown not in first["tokens"]
    assert first["tokens"].shape[1] <= LONGEST


def test_scenes_of_a_batch_share_more_than_chance_and_hold_nothing_judged():
    def most_common(recipe: ScenesClip, index: int) -> int:
        things = [thing for scene in near_scenes(recipe, index) for thing in scene.things]
        pairs = Counter((thing.color, thing.shape) for thing in things)
        assert {pair_split(*pair) for pair in pairs} == {"train"}
        return sum(count for _, count in pairs.most_common(12)) * 100 // len(things)

    near = [most_common(ScenesClip(batch=48), index) for index in range(4)]
    plain = [most_common(ScenesClip(batch=48, candidates=1), index) for index in range(4)]
    assert min(near) > max(plain)


def test_things_in_a_scene_are_as_many_as_in_the_world():
    recipe = ScenesClip(batch=200)
    counts = {
        many: Counter(
            len(scene.things) for scene in near_scenes(replace(recipe, candidates=many), 0)
        )
        for many in (1, 4)
    }
    assert all(abs(counts[1][n] - counts[4][n]) <= 30 for n in range(1, 7))


def test_a_run_leaves_a_model_that_a_second_begins_with(tmp_path: Path):
    vision = VisionConfig(image_size=64, stem=(8, 8), width=32, depth=1, head_dim=16)
    text = TextEncoderConfig.tiny(vocabulary=len(scenes_tokenizer()), length=LONGEST)
    recipe = ScenesClip(batch=8, candidates=1)
    recipe = replace(
        recipe,
        model=replace(DualEncoderConfig.tiny(), vision=vision, text=text),
        training=replace(
            recipe.training, steps=2, trackers=(), workers=0, precision="fp32", warmup=0
        ),
    )
    plan = recipe.build()
    outcome = train(plan, tmp_path)
    recipe.finish(plan, tmp_path)
    assert outcome.state == "finished" and 0 <= outcome.scores["tune"]["text_to_picture"] <= 1
    encoder = DualEncoder.load(str(tmp_path))
    wanted = plan.model.encode_text(torch.tensor([[1, 4, 2]]), torch.ones(1, 3, dtype=torch.bool))
    ids = encoder.networks.tokenizer.decode([4])
    with torch.no_grad():
        got = torch.from_numpy(encoder.embed_texts([ids]))
    torch.testing.assert_close(got, wanted.detach(), atol=2e-3, rtol=0)  # float16 in between

    begun = replace(recipe, start=str(tmp_path)).build().model.state_dict()
    for key, value in encoder.networks.encoder.state_dict().items():
        assert torch.equal(begun[key], value)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(recipe.build().model.state_dict(), begun)


def _fitting(reader: Path) -> ScenesClip:
    """The smallest recipe that begins with the tower of a tiny reader."""
    vision = read_image_to_text(reader).reader.config.vision
    text = TextEncoderConfig.tiny(vocabulary=len(scenes_tokenizer()), length=LONGEST)
    model = replace(DualEncoderConfig.tiny(), vision=vision, text=text)
    return ScenesClip(model=model, start_reader=str(reader))


def test_towers_begin_as_those_of_a_reader_and_of_a_shorter_text_encoder(tmp_path: Path):
    reader = tiny_reader(tmp_path / "reader")
    recipe = _fitting(reader)
    text = TextEncoder(replace(recipe.model.text, length=24))
    write_network(tmp_path / "text", text)
    begun = replace(recipe, start_text=str(tmp_path / "text")).build().model
    scratch = replace(recipe, start_reader=None).build().model
    seen, said = read_image_to_text(reader).reader.vision.state_dict(), text.state_dict()
    for prefix, wanted in (("vision.", seen), ("text.", said)):
        assert all(torch.equal(begun.state_dict()[prefix + k], v) for k, v in wanted.items())
        assert not all(torch.equal(scratch.state_dict()[prefix + k], v) for k, v in wanted.items())
    assert all(parameter.requires_grad for parameter in begun.parameters())


@pytest.mark.parametrize("change", [{"depth": 2}, {"head_dim": 8}, {"shuffle": 4}])
def test_a_reader_that_is_built_otherwise_is_refused(tmp_path: Path, change: dict[str, int]):
    recipe = _fitting(tiny_reader(tmp_path))
    other = replace(recipe.model, vision=replace(recipe.model.vision, **change))
    with pytest.raises(InvalidValue, match="vision tower"):
        replace(recipe, model=other).build()


def test_a_text_encoder_or_a_run_that_is_built_otherwise_is_refused(tmp_path: Path):
    recipe = replace(_fitting(tiny_reader(tmp_path / "reader")), start_reader=None)
    write_network(tmp_path / "text", TextEncoder(replace(recipe.model.text, depth=2)))
    with pytest.raises(InvalidValue, match="text encoder"):
        replace(recipe, start_text=str(tmp_path / "text")).build()
    begun = tiny_dual_encoder(tmp_path / "dual")
    with pytest.raises(InvalidValue, match="dual encoder"):
        replace(recipe, start=str(begun), model=replace(recipe.model, pool_heads=4)).build()
