"""The fixed sets of scenes that captioners learn from and are scored on, and what is said."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from diptych.data.scenes.captions import Wording, short
from diptych.data.scenes.world import Scene, World
from diptych.foundation.randomness import stream

# Up to three things, solid, without written words: what differs is how a network looks.
WORLD = World(themes=(0.25, 0.25, 0.35, 0.15), words=0.0, plain=1.0, most=3)
WORDING = Wording(size=0.3, background=0.1, relation=0.4)
REFERENCES = 5
LONGEST = 28  # tokens of a caption with its marks


@dataclass(frozen=True)
class Set:
    """`count` scenes of a split, from one seed."""

    split: str
    seed: int
    count: int

    def scene(self, index: int) -> Scene:
        """One of them."""
        return replace(WORLD, split=self.split).scene(self.seed, index)


SETS = {
    "train": Set("train", 2001, 12_000),
    "tune": Set("tune", 2002, 300),
    "heldout": Set("heldout", 2003, 500),
}


def said(scene: Scene, draw: Random) -> str:
    """A caption."""
    return short(scene, draw, WORDING)


def references(scene: Scene, seed: int, index: int) -> list[str]:
    """What `REFERENCES` people would say of scene `index` of a set."""
    return [said(scene, stream(seed, 10 + person, index)) for person in range(REFERENCES)]
