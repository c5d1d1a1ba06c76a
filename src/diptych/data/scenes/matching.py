"""Which sentence is true of which scene: what the search for a picture is judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from diptych.data.scenes.captions import detailed, place, relational, short
from diptych.data.scenes.claims import Claims
from diptych.data.scenes.grammar import parse
from diptych.data.scenes.judge import holds
from diptych.data.scenes.world import Scene, pick

KINDS = ("short", "detailed", "relational")


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence, what it claims, its kind (one of `KINDS`) and the scene it was written for."""

    kind: str
    text: str
    claims: Claims
    scene: Scene


def caption_of(scene: Scene, draw: Random, split: str = "train") -> Caption:
    """A caption of a kind that is drawn; short where nothing stands in a clear relation."""
    kind = pick(draw, KINDS)
    related = relational(scene, draw, split) if kind == "relational" else None
    if related is not None:
        return Caption(kind, related, parse(related), scene)
    kind = "short" if kind == "relational" else kind
    text = short(scene, draw) if kind == "short" else detailed(scene, draw)
    return Caption(kind, text, parse(text), scene)


def true_of(caption: Caption, scene: Scene) -> bool:
    """Whether a caption could have been written for a scene.

    Short and detailed ones name everything, so nothing else may be there, and the detailed
    ones' places must be those of the scene. A relational one says nothing of the rest.
    """
    verdict = holds(caption.claims, scene)
    if caption.kind == "relational":
        return all(part.holds for part in verdict.parts if part.kind != "nothing else")
    return verdict.right and (caption.kind == "short" or _placed(scene) == _placed(caption.scene))


def truths(captions: Sequence[Caption], scenes: Sequence[Scene]) -> NDArray[np.bool_]:
    """`true_of` for all: [scenes, captions] bool."""
    there = [Counter((thing.color, thing.shape) for thing in scene.things) for scene in scenes]
    table = np.zeros((len(scenes), len(captions)), bool)
    for column, caption in enumerate(captions):
        asked = Counter[tuple[str | None, str | None]]()
        for group in caption.claims.groups:
            asked[group.color, group.shape] += group.count
        for row, scene in enumerate(scenes):
            # What things there are decides nearly always; the judge is asked about the rest.
            may = asked <= there[row] if caption.kind == "relational" else asked == there[row]
            table[row, column] = may and true_of(caption, scene)
    return table


def _placed(scene: Scene) -> tuple[list[tuple[str, ...]], str]:
    """Every thing with the ninth it lies in, and where the word is."""
    things = sorted(
        (thing.size, thing.fill, thing.color, thing.shape, place(thing.x, thing.y))
        for thing in scene.things
    )
    return things, place(scene.word.x, scene.word.y) if scene.word else ""
