"""Which captions are true of which scenes, by their words and by the judge."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diptych.data.scenes.matching import KINDS, Caption, caption_of, true_of, truths
from diptych.data.scenes.vocabulary import UNITS
from diptych.data.scenes.world import Scene, World
from diptych.foundation.randomness import stream


def _captioned(world: World, count: int) -> tuple[list[Caption], list[Scene]]:
    scenes = [world.scene(3, index) for index in range(count)]
    return [caption_of(scene, stream(4, i)) for i, scene in enumerate(scenes)], scenes


def _mirrored(scene: Scene) -> Scene:
    things = tuple(replace(thing, x=UNITS - thing.x) for thing in scene.things)
    word = scene.word and replace(scene.word, x=UNITS - scene.word.x)
    return replace(scene, things=things, word=word)


def test_a_caption_is_true_of_its_own_scene_and_all_kinds_come():
    captions, scenes = _captioned(World(split="tune"), 200)
    assert {one.kind for one in captions} == set(KINDS)
    assert truths(captions, scenes).diagonal().all()


def test_the_table_is_what_the_judge_says_of_each_pair():
    """Among scenes of one or two things, where many captions are true of several."""
    captions, scenes = _captioned(World(themes=(0.6, 0.1, 0.3, 0), words=0.1, most=2), 150)
    table = truths(captions, scenes)
    wanted = [[true_of(caption, scene) for caption in captions] for scene in scenes]
    assert table.tolist() == wanted
    assert table.sum() > 160


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_that_a_caption_speaks_of_makes_it_false(kind: str):
    captions, scenes = _captioned(World(words=0.2, most=4), 300)
    changed = kept = 0
    for caption, scene in zip(captions, scenes, strict=True):
        if caption.kind != kind:
            continue
        first = scene.things[0]
        more = replace(scene, things=(*scene.things, replace(first, color="red", shape="star")))
        fewer = replace(scene, things=scene.things[1:])
        says_all = kind != "relational"
        if says_all:
            assert not true_of(caption, more) and not true_of(caption, fewer)
        mirror = _mirrored(scene)
        sides = "left" in caption.text or "right" in caption.text
        if sides:
            changed += not true_of(caption, mirror)
        else:
            kept += 1
            assert true_of(caption, mirror)
    assert changed > 2 and kept > 3


def test_a_relational_caption_says_nothing_of_the_rest():
    captions, scenes = _captioned(World(words=0.0), 200)
    tried = 0
    for caption, scene in zip(captions, scenes, strict=True):
        if caption.kind != "relational":
            continue
        named = {(group.color, group.shape) for group in caption.claims.groups}
        rest = [t for t in scene.things if (t.color, t.shape) not in named]
        if rest:
            tried += 1
            without = replace(scene, things=tuple(t for t in scene.things if t not in rest))
            assert true_of(caption, without)
            again = replace(scene, things=(*scene.things, next(
                t for t in scene.things if (t.color, t.shape) in named
            )))  # fmt: skip
            assert not true_of(caption, again)  # "the red star" is one of two: which?
    assert tried > 10
