"""The judge agrees with the truth graph, and with nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from benchmarks import judge as bench
from benchmarks.malformed import MALFORMED, decoded, roomy
from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.claims import Claims, Group
from diptych.data.scenes.judge import KINDS, Seen, check, holds, judge, see
from diptych.data.scenes.render import render
from diptych.data.scenes.templates import indistinct
from diptych.data.scenes.world import Scene, Thing, Word, World
from diptych.foundation.errors import InvalidValue

RED_STAR = Thing("star", "red", "large", "solid", 18, 18, 13.25)
BLUE_RING = Thing("circle", "blue", "medium", "outlined", 46, 44, 10.0)
PAIR = Scene((RED_STAR, BLUE_RING), Word("K7", 20, 50), "sand")


def share(trial, count: int) -> float:
    return sum(trial(index) for index in range(count)) / count


def looks(thing: Thing) -> tuple[str, ...]:
    return thing.shape, thing.color, thing.size, thing.fill


@pytest.mark.parametrize("size", [64, 128])
def test_every_thing_is_seen_where_it_stands(size: int):
    for index in range(40):
        scene = World(split="heldout", size=size).scene(31, index)
        seen = see(render(scene, size))
        assert seen.malformed == ()
        assert seen.background == scene.background
        assert seen.word == scene.word
        left = list(seen.things)
        for thing in scene.things:
            near = min(left, key=lambda t: abs(t.x - thing.x) + abs(t.y - thing.y))
            left.remove(near)
            assert looks(near) == looks(thing)
            assert abs(near.x - thing.x) <= 1 and abs(near.y - thing.y) <= 1
            assert abs(near.radius - thing.radius) < 0.5
        assert not left


@pytest.mark.parametrize("size", [32, 48, 96, 256, 512])
def test_other_sizes_are_read_too(size: int):
    scene = replace(PAIR, word=None)
    assert judge(render(scene, size), bench.claims_of(scene)).right


@pytest.mark.parametrize("size", [64, 128])
def test_truth_is_right_clean_and_degraded(size: int):
    assert share(partial(bench.truth, size, bench._same, False), 60) == 1
    for degrade, seeded in bench.DEGRADED.values():
        assert share(partial(bench.truth, size, degrade, seeded), 30) >= 0.97
    assert share(partial(bench.as_decoded, size), 30) >= 0.95


@pytest.mark.parametrize("kind", bench.PLANTED)
def test_a_planted_error_is_caught(kind: str):
    assert share(partial(bench.catches, kind, 64), 25) == 1


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_pictures_are_rejected(kind: str):
    assert share(partial(bench.rejects, kind, 64), 30) >= 0.95


def test_a_speck_of_dirt_is_no_thing_but_a_blob_is():
    picture = render(PAIR, 64).copy()
    claims = bench.claims_of(PAIR)
    picture[5, 50] = 0
    assert judge(picture, claims).right
    picture[5:9, 50:54] = 0
    assert judge(picture, claims).seen.malformed


@pytest.mark.parametrize(
    ("prompt", "right", "failing"),
    [
        ('a red star, a blue circle and the word "K7"', True, set()),
        ('a large red star, a blue circle and the word "K7" on a sand background', True, set()),
        ('a red star, an outlined blue circle and the word "K7"', True, set()),
        ('a red star, a blue circle and the word "K8"', False, {"word"}),
        ("a red star and a blue circle", False, {"nothing else"}),
        ('a small red star, a blue circle and the word "K7"', False, {"object", "size"}),
        ('a green star, a blue circle and the word "K7"', False, {"object", "color"}),
        ('a red heart, a blue circle and the word "K7"', False, {"object", "shape"}),
        ('a red star, a striped blue circle and the word "K7"', False, {"object", "fill"}),
        ('two red stars, a blue circle and the word "K7"', False, {"count"}),
        ('a red star and the word "K7"', False, {"nothing else"}),
        ('a red star, a blue circle and the word "K7" on a mint background', False, {"background"}),
    ],
)  # fmt: skip
def test_the_part_that_is_wrong_is_named(prompt: str, right: bool, failing: set[str]):
    verdict = check(render(PAIR, 64), prompt)
    assert verdict.right is right
    assert {part.kind for part in verdict.parts if not part.holds} == failing
    assert {part.kind for part in verdict.parts} <= set(KINDS)


@pytest.mark.parametrize(
    ("relation", "right"),
    [("above", True), ("below", False), ("left of", False), ("right of", False)],
)
def test_a_relation_holds_on_the_larger_axis_only(relation: str, right: bool):
    scene = Scene((replace(RED_STAR, x=20, y=16), replace(BLUE_RING, x=34, y=46)), None, "white")
    claims = Claims(
        (Group(1, "star", "red"), Group(1, "circle", "blue")), relations=((0, relation, 1),)
    )
    assert judge(render(scene), claims).right is right
    assert holds(claims, scene).right is right


def test_alike_things_are_dealt_out_so_that_the_relation_holds():
    """Which of the two red squares is meant is free, but not that both are the same one."""
    low = Thing("square", "red", "small", "solid", 20, 50, 7.0)
    scene = Scene((low, replace(low, y=30), replace(low, shape="circle", y=10)), None, "white")
    groups = (Group(1, "square", "red"), Group(1, "circle", "red"), Group(1, None, "red"))
    chain = ((1, "above", 2), (2, "above", 0))
    assert holds(Claims(groups, chain), scene).right
    assert not holds(Claims(groups, ((2, "above", 1),)), scene).right


def test_none_of_something_is_a_claim():
    scene = Scene((RED_STAR,), None, "white")
    one = Group(1, "star", "red")
    assert holds(Claims((one, Group(0, "circle"))), scene).right
    assert not holds(Claims((one, Group(0, "star"))), scene).right


def test_pixels_and_graph_give_the_same_verdict():
    for index in range(30):
        scene = World(split="heldout").scene(32, index)
        seen = see(render(scene))
        for other in range(index, index + 3):
            claims = bench.claims_of(World(split="heldout").scene(32, other))
            assert holds(claims, seen).right == holds(claims, scene).right == (other == index)


def test_a_malformed_blob_is_never_right():
    seen = Seen((RED_STAR,), None, "white", ("The red blob at 9, 9 is no clear shape.",))
    assert not holds(Claims((Group(1, "star", "red"),)), seen).right


@pytest.mark.parametrize("color", list(v.COLORS))
@pytest.mark.parametrize("shape", v.SHAPES)
def test_every_combination_is_known_on_every_background(shape: str, color: str):
    for number, (size, fill) in enumerate((s, f) for s in v.SIZES for f in v.FILLS):
        if size == "small" and fill != "solid":
            continue
        thing = Thing(shape, color, size, fill, 31, 33, v.SIZES[size][number % 3])
        ground = list(v.BACKGROUNDS)[number % 5]
        seen = see(render(Scene((thing,), None, ground)))
        assert seen.malformed == ()
        assert list(map(looks, seen.things)) == [looks(thing)]


@pytest.mark.parametrize("shape", v.SHAPES)
def test_small_things_have_the_fills_that_can_be_told_apart(shape: str):
    fills = ("solid", *v.SMALL_FILLS[shape])
    assert fills == tuple(
        fill for fill in v.FILLS if fill == "solid" or not indistinct(shape, "small", fill, "solid")
    )
    for number, size in enumerate((128, 256, 512)):
        color, ground = list(v.COLORS)[3 * number], list(v.BACKGROUNDS)[number]
        for fill in fills:
            thing = Thing(shape, color, "small", fill, 31, 33, v.SIZES["small"][number])
            picture = render(Scene((thing,), None, ground), size)
            for shown in (picture, bench.blurred(picture)):
                assert list(map(looks, see(shown).things)) == [looks(thing)]


def test_only_such_fills_are_drawn():
    """At 64 px small things are solid; at 128 px every fill that is offered comes."""
    for size in (64, 128):
        drawn = {
            (thing.shape, thing.fill)
            for index in range(2500 if size == 128 else 300)
            for thing in World(size=size, plain=0.0, sizes=("small",)).scene(7, index).things
        }
        fills = {s: v.SMALL_FILLS[s] if size == 128 else ("solid",) for s in v.SHAPES}
        assert drawn == {(shape, fill) for shape in v.SHAPES for fill in fills[shape]}


@pytest.mark.parametrize("letter", v.LETTERS)
def test_every_letter_is_read_alone_and_soft(letter: str):
    scene = Scene((), Word(letter, 31, 30), "gray")
    for size in (64, 128):
        assert see(render(scene, size)).word == scene.word
    seen = see(decoded(scene, 128, ord(letter)))
    assert seen.word is not None and seen.word.text == letter


@pytest.mark.parametrize("seed", range(4))
def test_noise_and_emptiness_are_seen_without_a_thing(seed: int):
    noise = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
    assert see(noise).things == () and see(noise).malformed
    flat = np.full((64, 64, 3), list(v.BACKGROUNDS.values())[seed], np.uint8)
    assert see(flat) == Seen((), None, list(v.BACKGROUNDS)[seed])


@pytest.mark.parametrize(
    "wrong", [np.zeros((64, 32, 3), np.uint8), np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3))]
)
def test_what_is_no_picture_is_refused(wrong: np.ndarray):
    with pytest.raises(InvalidValue):
        see(wrong)


def test_the_unspoiled_scene_of_each_malformed_picture_is_right():
    """So that a rejection is for the damage alone."""
    for index in range(20):
        scene = roomy(bench.SEED, index)
        assert judge(render(scene), bench.claims_of(scene)).right


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_table_holds():
    assert bench.main(scenes=2000, jobs=1) == 0
