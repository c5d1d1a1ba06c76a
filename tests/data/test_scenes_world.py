"""The scenes world: a pure function, honest splits, sentences that mean what the scene is."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.captions import detailed, relational, short
from diptych.data.scenes.clips import clip
from diptych.data.scenes.edits import edit
from diptych.data.scenes.grammar import parse
from diptych.data.scenes.judge import holds
from diptych.data.scenes.maps import edges, instances
from diptych.data.scenes.questions import CHANCE, KINDS, questions, words
from diptych.data.scenes.render import mask, render, visible
from diptych.data.scenes.world import World, relation
from diptych.foundation.errors import InvalidValue
from diptych.foundation.randomness import stream
from diptych.recipes.scenes_words import scenes_tokenizer


def test_a_scene_is_a_function_of_seed_and_index_alone():
    world = World()
    first = [world.scene(3, i) for i in range(50)]
    again = [World().scene(3, i) for i in reversed(range(50))]
    assert first == again[::-1]
    assert len({scene.things for scene in first}) == 50
    assert [world.scene(4, i) for i in range(50)] != first


@pytest.mark.parametrize("split", ["train", "tune", "heldout"])
def test_splits_hold_their_combinations(split: str):
    seen: set[str] = set()
    for index in range(400):
        scene = World(split=split).scene(1, index)
        splits = {v.pair_split(t.color, t.shape) for t in scene.things}
        seen |= splits
        assert splits <= {"train", split}
        if split != "train":
            assert split in splits, "every scene of a judged split holds a held-out pair"
        if split == "train" and len(scene.things) == 2:
            a, b = scene.things
            stated = relation(a, b)
            assert stated is None or v.relation_split(a.shape, stated, b.shape) == "train"
        if scene.word is not None:
            assert (v.word_split(scene.word.text) == "train") == (split == "train")
    assert split in seen


def test_relations_are_held_out_both_ways_round():
    for a in v.SHAPES:
        for b in v.SHAPES:
            for said, opposite in v.OPPOSITE.items():
                assert v.relation_split(a, said, b) == v.relation_split(b, opposite, a)


@pytest.mark.parametrize("size", [64, 128])
def test_silhouettes_keep_apart_and_inside(size: int):
    for index in range(40):
        scene = World(split="heldout", size=size).scene(2, index)
        masks = [mask(thing, size) for thing in scene.things]
        for number, own in enumerate(masks):
            assert not own[0].any() and not own[-1].any()
            assert not own[:, 0].any() and not own[:, -1].any()
            rows, columns = np.nonzero(own & ~_inner(own))
            for other in masks[number + 1 :]:
                y, x = np.nonzero(other & ~_inner(other))
                gap = np.hypot(rows[:, None] - y, columns[:, None] - x).min()
                assert gap >= 3 * size / 64


def _inner(whole: np.ndarray) -> np.ndarray:
    """Pixels with all four neighbours inside: they are never the nearest to another thing."""
    padded = np.pad(whole, 1)
    return padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def test_things_of_the_occluded_split_overlap_but_are_seen():
    overlaps = 0
    for index in range(60):
        scene = World(split="occluded").scene(1, index)
        for thing, seen in zip(scene.things, visible(scene), strict=True):
            whole = mask(thing)
            assert seen.any()
            overlaps += int(seen.sum() < whole.sum())
    assert overlaps > 5


@pytest.mark.parametrize("size", [32, 64, 96, 200, 512])
def test_pictures_of_any_size_show_the_same_scene(size: int):
    scene = World(words=1.0).scene(5, 1)
    picture = render(scene, size)
    assert picture.shape == (size, size, 3) and picture.dtype == np.uint8
    assert (picture == render(scene, size)).all()
    for thing in scene.things:
        share = mask(thing, size).mean()
        assert share == pytest.approx(mask(thing, 256).mean(), rel=0.25)


def test_sentences_mean_the_scene_they_were_written_for():
    for index in range(300):
        scene = World(split="heldout").scene(6, index)
        draw = stream(7, index)
        for text in (short(scene, draw), detailed(scene, draw)):
            assert holds(parse(text), scene).right, text
        related = relational(scene, draw, "heldout")
        if related is not None:
            parts = holds(parse(related), scene).parts
            assert all(p.holds for p in parts if p.kind == "relation"), related


def test_every_word_of_every_sentence_is_in_the_vocabulary():
    tokenizer = scenes_tokenizer()
    for index in range(300):
        scene, draw = World(split="heldout").scene(8, index), stream(9, index)
        said = [short(scene, draw), detailed(scene, draw), relational(scene, draw) or ""]
        said += [part for q in questions(scene, draw) for part in (q.text, q.answer)]
        for text in said:
            numbers = tokenizer.encode(text)
            assert tokenizer.unknown not in numbers, text
            assert tokenizer.decode(numbers) == text
    assert len(words()) == len(set(words()))


def test_one_who_does_not_look_answers_at_chance():
    """The best answer to each question text, learned on half of the questions, is tried on the
    other half. Question texts that are rare teach nothing, so kinds fall back on their own best."""
    learned: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    right, asked = Counter[str](), Counter[str]()
    world = World()
    for index in range(6000):
        scene = world.scene(10, index)
        for question in questions(scene, stream(11, index)):
            table = learned[question.kind]
            if index % 2 == 0:
                table[question.text][question.answer] += 1
                table[""][question.answer] += 1
                continue
            known = table[question.text] if sum(table[question.text].values()) > 30 else table[""]
            guess = known.most_common(1)[0][0] if known else ""
            asked[question.kind] += 1
            right[question.kind] += guess == question.answer
    for kind in KINDS:
        assert right[kind] / asked[kind] <= CHANCE[kind] + 0.05, kind


@pytest.mark.parametrize(
    ("prompt", "said"),
    [("a red circl", "circle"), ("a redd star", "red"), ("", "empty"), ("a red", "too early")],
)
def test_a_prompt_that_is_not_understood_says_what_would_be(prompt: str, said: str):
    with pytest.raises(InvalidValue, match=said):
        parse(prompt)


def test_an_edit_changes_what_it_names_and_nothing_else():
    kinds = Counter[str]()
    for index in range(200):
        scene = World().scene(12, index)
        change = edit(scene, stream(13, index))
        assert change.before == scene and change.after != scene
        kinds[change.instruction.split()[0]] += 1
        before, after = set(scene.things), set(change.after.things)
        assert len(before - after) <= 1 and len(after - before) <= 1
        assert change.after.word == scene.word
    assert {"make", "turn", "remove"} <= set(kinds)


def test_in_a_clip_one_thing_moves_as_said_and_touches_nothing():
    moving = 0
    for index in range(100):
        made = clip(World(split="train").scene(14, index), stream(15, index))
        first, last = made.frames[0], made.frames[-1]
        changed = [(a, b) for a, b in zip(first.things, last.things, strict=True) if a != b]
        assert len(changed) <= 1
        assert bool(changed) != made.motion.endswith("stands still")
        for a, b in changed:
            moving += 1
            way = relation(b, a)
            said = {"moves up": "above", "moves down": "below", "moves left": "left of"}
            wanted = next((r for m, r in said.items() if made.motion.endswith(m)), "right of")
            assert way == wanted
        for frame in made.frames:
            assert instances(frame).max() == len(frame.things)
    assert moving > 50


def test_edges_lie_where_things_end():
    scene = World().scene(16, 0)
    numbers, edge = instances(scene), edges(scene)
    assert edge.any() and edge.mean() < 0.3
    flat = (numbers == 0) & ~edge
    assert flat.sum() > 0
