"""Where a captioner looks while it names a thing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.captions import plural
from diptych.data.scenes.grammar import parse
from diptych.data.scenes.world import Scene, Thing
from diptych.nn.boxes import overlaps
from diptych.objectives.detection import NEAR
from diptych.recipes.captioners.scores import Said
from diptych.recipes.captioners.seen import seen_of
from diptych.recipes.captioners.turns import scenes_of
from diptych.recipes.scenes_words import marked, scenes_tokenizer

_SHAPES = {*v.SHAPES, *map(plural, v.SHAPES)}


@dataclass(frozen=True)
class Look:
    """A thing that is named alone, the place of its shape's word among the tokens of a caption, and
    how much of each place or box is its own, 0..1 [N]."""

    thing: Thing
    word: int
    own: Tensor


def named(text: str, scene: Scene) -> list[tuple[Thing, int]]:
    """Things of which there is one and which a caption names by color and shape, each with the
    place of its shape's word among the caption's tokens, its mark of begin being the first."""
    tokenizer = scenes_tokenizer()
    words = {tokenizer.vocabulary[word] for word in _SHAPES}
    places = [i for i, token in enumerate(marked(tokenizer, text)) if token in words]
    found = []
    for group, place in zip(parse(text).groups, places, strict=True):
        same = [t for t in scene.things if (t.color, t.shape) == (group.color, group.shape)]
        if group.count == len(same) == 1:
            found.append((same[0], place))
    return found


def cells_of(thing: Thing, side: int) -> Tensor:
    """How much of each of side x side cells its box covers, in reading order [side^2], 0..1"""
    edges = torch.arange(side + 1) * v.UNITS / side
    left, top, right, bottom = thing.box
    across = (edges[1:].clamp(max=right) - edges[:-1].clamp(min=left)).clamp(min=0)
    down = (edges[1:].clamp(max=bottom) - edges[:-1].clamp(min=top)).clamp(min=0)
    return (down[:, None] * across[None]).flatten() * (side / v.UNITS) ** 2


def boxes_of(thing: Thing, boxes: Tensor) -> Tensor:
    """1 for boxes [R, 4] that lie on it, else 0 [R]"""
    sides = 2 * thing.radius
    own = torch.tensor([[thing.x, thing.y, sides, sides]]) / v.UNITS
    return (overlaps(own, boxes)[0] >= NEAR).float()


@torch.no_grad()
def attention_on_things(network: Any, eyes: Path, said: Said) -> dict[str, float]:
    """Over the exact captions of the held-out set: `mass`, the attention on the box of a thing
    while its shape is said, and `area`, what it would be if all places were looked at alike; 0..1
    both. `named`: over how many things."""
    seen, scenes = seen_of(eyes, "heldout"), scenes_of("heldout")
    mass, area = [], []
    for number, (scene, text) in enumerate(zip(scenes, said.texts, strict=True)):
        things = named(text, scene) if said.exact[number] else []
        if not things:
            continue
        alphas = attention(network, eyes, number, text)
        boxes = seen.rows(("boxes",), [number])["boxes"][0]
        for thing, word in things:
            places = alphas.shape[-1]
            own = (
                boxes_of(thing, boxes)
                if network.sees == ("regions",)
                else cells_of(thing, round(places**0.5))
            )
            mass.append(float((alphas[word - 1] * own).sum()))
            area.append(float(own.mean()))
    count = max(1, len(mass))
    return {"mass": sum(mass) / count, "area": sum(area) / count, "named": float(len(mass))}


@torch.no_grad()
def attention(network: Any, eyes: Path, number: int, text: str) -> Tensor:
    """Of the n-th word of a caption of held-out scene `number`, the n-th row [L, N], sums 1."""
    tokens = torch.tensor([marked(scenes_tokenizer(), text)])
    seen = seen_of(eyes, "heldout").rows(network.sees, [number])
    return network.attended(tokens=tokens[:, :-1], **seen)[1][0]
