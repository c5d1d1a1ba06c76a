"""How far the judge of the scenes world can be trusted: `python -m benchmarks.judge`.

Prints, for 64 and 128 px, how often it is right about rendered truth, clean and degraded, how
many planted single errors it catches and how many malformed pictures it rejects, each beside
what is needed. Ends with 1 if a needed value is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from random import Random

import numpy as np

from benchmarks.malformed import MALFORMED, blurred, decoded, jpeg, noisy, roomy
from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.captions import detailed, short
from diptych.data.scenes.claims import Claims, Group
from diptych.data.scenes.grammar import parse
from diptych.data.scenes.judge import holds, judge, see
from diptych.data.scenes.render import render
from diptych.data.scenes.world import Scene, Thing, World, pick, stated_relations
from diptych.foundation.randomness import stream

SEED = 2024


def claims_of(scene: Scene) -> Claims:
    """Everything that is true of a scene, every relation that stands clearly included."""
    kinds: dict[tuple[str, str, str, str], list[Thing]] = {}
    for thing in scene.things:
        kinds.setdefault((thing.shape, thing.color, thing.size, thing.fill), []).append(thing)
    groups = tuple(
        Group(len(things), shape, color, size, fill)
        for (shape, color, size, fill), things in kinds.items()
    )
    single = {things[0]: k for k, things in enumerate(kinds.values()) if len(things) == 1}
    relations = tuple(
        (single[a], name, single[b]) for a, name, b in stated_relations(list(single), "heldout")
    )
    word = scene.word.text if scene.word else None
    return Claims(groups, relations, word, scene.background)


def truth(size: int, degrade: Callable[..., np.ndarray], seeded: bool, index: int) -> bool:
    """Whether the judge is right about one scene and both its captions."""
    scene = World(split="heldout", size=size).scene(SEED, index)
    picture = render(scene, size)
    seen = see(degrade(picture, index) if seeded else degrade(picture))
    draw = stream(SEED, index, 1)
    said = [claims_of(scene), parse(short(scene, draw)), parse(detailed(scene, draw))]
    return all(holds(claims, seen).right for claims in said)


def as_decoded(size: int, index: int) -> bool:
    scene = World(split="heldout", size=size).scene(SEED, index)
    return judge(decoded(scene, size, index), claims_of(scene)).right


def occluded(size: int, index: int) -> bool:
    scene = World(split="occluded", size=size).scene(SEED, index)
    return judge(render(scene, size), claims_of(scene)).right


def rejects(kind: str, size: int, index: int) -> bool:
    scene = roomy(SEED, index)
    picture = MALFORMED[kind](scene, size, stream(SEED, index, 2))
    return not judge(picture, claims_of(scene)).right


def catches(kind: str, size: int, index: int) -> bool:
    """Whether a picture that differs from the claims in one respect is found wrong."""
    draw = stream(SEED, index, 3)
    for attempt in range(1000):
        scene = World(split="heldout", size=size, words=1.0 if kind == "letter" else 0.3).scene(
            SEED + 1 + attempt, index
        )
        other = PLANTED[kind](scene, draw)
        if other is not None:
            return not judge(render(other, size), claims_of(scene)).right
    raise RuntimeError(f"no scene lets a wrong {kind} be planted")


def _altered(scene: Scene, k: int, **changes: object) -> Scene:
    things = list(scene.things)
    things[k] = replace(things[k], **changes)
    return replace(scene, things=tuple(things))


def _other_color(scene: Scene, draw: Random) -> Scene:
    k = int(draw.random() * len(scene.things))
    return _altered(scene, k, color=pick(draw, [c for c in v.COLORS if c != scene.things[k].color]))


def _other_shape(scene: Scene, draw: Random) -> Scene:
    k = int(draw.random() * len(scene.things))
    return _altered(scene, k, shape=pick(draw, [s for s in v.SHAPES if s != scene.things[k].shape]))


def _other_size(scene: Scene, draw: Random) -> Scene | None:
    """One size smaller: there is always room for that."""
    k = int(draw.random() * len(scene.things))
    thing, order = scene.things[k], list(v.SIZES)
    place = order.index(thing.size)
    if place == 0:
        return None
    smaller = order[place - 1]
    fill = "solid" if smaller == "small" else thing.fill
    if fill != thing.fill:
        return None
    return _altered(scene, k, size=smaller, radius=pick(draw, v.SIZES[smaller]))


def _one_less(scene: Scene, draw: Random) -> Scene:
    k = int(draw.random() * len(scene.things))
    return replace(scene, things=scene.things[:k] + scene.things[k + 1 :])


def _one_more(scene: Scene, draw: Random) -> Scene | None:
    """A small copy of a thing's color and shape in a free place."""
    thing = replace(pick(draw, scene.things), size="small", radius=6.5, fill="solid")
    boxes = [thing.box for thing in scene.things] + ([scene.word.box] if scene.word else [])
    for _ in range(200):
        copy = replace(thing, x=9 + int(draw.random() * 47), y=9 + int(draw.random() * 47))
        left, top, right, bottom = copy.box
        if all(
            right + v.GAP <= b[0] or b[2] + v.GAP <= left
            or bottom + v.GAP <= b[1] or b[3] + v.GAP <= top
            for b in boxes
        ):  # fmt: skip
            return replace(scene, things=(*scene.things, copy))
    return None


def _swapped(scene: Scene, draw: Random) -> Scene | None:
    """Two different things of one radius class in each other's place, where they stood clearly."""
    del draw
    pairs = claims_of(scene)
    if len(scene.things) != 2 or not pairs.relations:
        return None
    a, b = scene.things
    moved = replace(a, x=b.x, y=b.y), replace(b, x=a.x, y=a.y)
    if any(min(t.box) < 1 or max(t.box) > v.UNITS - 1 for t in moved):
        return None
    return replace(scene, things=moved) if abs(a.radius - b.radius) < v.GAP else None


def _other_letter(scene: Scene, draw: Random) -> Scene | None:
    if scene.word is None:
        return None
    text = scene.word.text
    k = int(draw.random() * len(text))
    letter = pick(draw, [letter for letter in v.LETTERS if letter != text[k]])
    return replace(scene, word=replace(scene.word, text=text[:k] + letter + text[k + 1 :]))


PLANTED: dict[str, Callable[[Scene, Random], Scene | None]] = {
    "color": _other_color,
    "shape": _other_shape,
    "size": _other_size,
    "count, one less": _one_less,
    "count, one more": _one_more,
    "relation": _swapped,
    "letter": _other_letter,
}
DEGRADED: dict[str, tuple[Callable[..., np.ndarray], bool]] = {
    "JPEG 75, 4:4:4": (jpeg, False),
    "blur 0.7 px": (blurred, False),
    "noise 4/255": (noisy, True),
}


@dataclass(frozen=True)
class Row:
    """One line of the table; `needed` is None where the value is only reported."""

    title: str
    size: int
    needed: float | None
    trial: Callable[[int], bool]
    share: float  # of the number of scenes


def rows() -> list[Row]:
    table: list[Row] = []
    for size in (64, 128):
        clean = partial(truth, size, _same, False)
        table.append(Row("truth", size, 0.995, clean, 1.0))
        for name, (degrade, seeded) in DEGRADED.items():
            trial = partial(truth, size, degrade, seeded)
            table.append(Row(f"truth after {name}", size, 0.97, trial, 0.15))
        chroma = partial(truth, size, _jpeg_420, False)
        table.append(Row("truth after JPEG 75, 4:2:0", size, None, chroma, 0.1))
        table.append(Row("truth as a soft decoder", size, 0.97, partial(as_decoded, size), 0.15))
        table.append(Row("occluded truth", size, None, partial(occluded, size), 0.1))
        for kind in PLANTED:
            planted = partial(catches, kind, size)
            table.append(Row(f"caught: wrong {kind}", size, 0.99, planted, 0.05))
        for kind in MALFORMED:
            malformed = partial(rejects, kind, size)
            table.append(Row(f"rejected: {kind}", size, None, malformed, 1 / 14))
    return table


def _same(picture: np.ndarray) -> np.ndarray:
    return picture


def _jpeg_420(picture: np.ndarray) -> np.ndarray:
    return jpeg(picture, 2)


def _held(trial: Callable[[int], bool], start: int, stop: int) -> int:
    return sum(trial(index) for index in range(start, stop))


def _milliseconds(size: int) -> float:
    pictures = [render(World(split="heldout", size=size).scene(1, i), size) for i in range(100)]
    see(pictures[0])
    start = time.process_time()
    for picture in pictures:
        see(picture)
    return (time.process_time() - start) * 10


def main(scenes: int, jobs: int) -> int:
    missed = 0
    held: Counter[int] = Counter()
    table = rows()
    for size in (64, 128):
        print(f"{_milliseconds(size):5.1f} ms of CPU to see one picture of {size} px")
    with ProcessPoolExecutor(jobs) as pool:
        counts = [max(round(scenes * row.share), 20) for row in table]
        parts = [
            (k, pool.submit(_held, row.trial, start, min(start + 50, counts[k])))
            for k, row in enumerate(table)
            for start in range(0, counts[k], 50)
        ]
        for k, part in parts:
            held[k] += part.result()
    for k, row in enumerate(table):
        value = held[k] / counts[k]
        missed += row.needed is not None and value < row.needed
        needed = "        " if row.needed is None else f">= {row.needed:.1%}"
        print(f"{row.size:4d} px  {row.title:36s} {value:7.2%}  {needed}  of {counts[k]}")
    for size in (64, 128):
        mine = [k for k, row in enumerate(table) if row.size == size and "rejected" in row.title]
        value = sum(held[k] for k in mine) / sum(counts[k] for k in mine)
        missed += value < 0.95
        title = "rejected of all malformed"
        print(
            f"{size:4d} px  {title:36s} {value:7.2%}  >= 95.0%  of {sum(counts[k] for k in mine)}"
        )
    return int(missed > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    sys.exit(main(options.scenes, options.jobs))
