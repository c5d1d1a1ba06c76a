"""The prompts that text-to-image models of the scenes world are scored on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diptych.data.scenes.captions import Wording, short
from diptych.data.scenes.world import Scene, World, relation
from diptych.foundation.randomness import stream

KINDS = ("one object", "two alike", "relation")
_THEMES = {"one object": (1, 0, 0, 0), "two alike": (0, 1, 0, 0), "relation": (0, 0, 1, 0)}


@dataclass(frozen=True)
class Prompt:
    kind: str
    text: str
    seed: int


def prompts(split: str, seed: int, each: int) -> list[Prompt]:
    """`each` prompts of every kind, all with a held-out combination of this split."""
    return [prompt for kind in KINDS for prompt in _of_kind(split, seed, kind, each)]


def _of_kind(split: str, seed: int, kind: str, count: int) -> Iterator[Prompt]:
    most = {"one object": 1, "two alike": 2, "relation": 2}[kind]
    world = World(split=split, themes=_THEMES[kind], words=0.0, plain=0.75, most=most)
    index = made = 0
    seen: set[str] = set()
    while made < count:
        scene = world.scene(seed, index)
        text = short(scene, stream(seed, 1, index), Wording(relation=1.0, background=0.1))
        index += 1
        if text in seen or not _fits(scene, kind):
            continue
        seen.add(text)
        made += 1
        yield Prompt(kind, text, seed * 100_000 + index)


def _fits(scene: Scene, kind: str) -> bool:
    if kind == "two alike":
        return len(scene.things) == 2 and len({(t.color, t.shape) for t in scene.things}) == 1
    return kind != "relation" or relation(*scene.things) is not None
