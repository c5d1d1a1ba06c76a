"""Scenes: a pure function from (seed, index) to things, a word and a background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from diptych.data.scenes import vocabulary as v
from diptych.foundation.errors import InvalidValue
from diptych.foundation.randomness import stream


@dataclass(frozen=True, slots=True)
class Thing:
    """One object. `x`, `y` is its center and `radius` its half extent, in units of 1/64."""

    shape: str
    color: str
    size: str
    fill: str
    x: int
    y: int
    radius: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in units."""
        r = self.radius
        return self.x - r, self.y - r, self.x + r, self.y + r


@dataclass(frozen=True, slots=True)
class Word:
    """A written word; `x`, `y` is its center in units."""

    text: str
    x: int
    y: int

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in units."""
        half = len(self.text) * v.ADVANCE / 2
        return self.x - half, self.y - 6, self.x + half, self.y + 6


@dataclass(frozen=True, slots=True)
class Scene:
    """Things in the order they are painted (a later one covers an earlier one)."""

    things: tuple[Thing, ...]
    word: Word | None
    background: str


@dataclass(frozen=True, kw_only=True)
class World:
    """Which scenes exist and how often. `size` is the smallest picture they must be clear at.

    `themes` weighs one object, two to four alike, two different ones, and three to six.
    Raises InvalidValue for a split or size that is not offered.
    """

    split: str = "train"
    size: int = 64
    themes: tuple[float, float, float, float] = (0.2, 0.25, 0.25, 0.3)
    words: float = 0.3
    plain: float = 0.5  # how often a thing is solid where another fill is possible
    most: int = 6
    sizes: tuple[str, ...] = field(default=tuple(v.SIZES))

    def __post_init__(self) -> None:
        if self.split not in v.SPLITS:
            raise InvalidValue(f"There is no split {self.split!r}.", do=f"Choose of {v.SPLITS}.")
        if not 32 <= self.size <= 512:
            raise InvalidValue(f"Size {self.size} is not offered.", do="Choose 32 to 512 pixels.")

    def scene(self, seed: int, index: int) -> Scene:
        """The scene of this number: the same for ever, whatever was asked before."""
        draw = stream(seed, index)
        while True:
            things = self._things(draw)
            word = self._word(draw) if draw.random() < self.words else None
            background = pick(draw, tuple(v.BACKGROUNDS))
            while True:
                for _ in range(4):
                    placed = _place(draw, things, word, gap=self._gap)
                    if placed is not None and self._allows(placed[0]):
                        return Scene(*placed, background)
                # Too full: the largest shrink, so that the counts keep their balance.
                smaller = _shrunk(things)
                if smaller == things:
                    break
                things = smaller

    def _things(self, draw: Random) -> list[Thing]:
        one, alike, pair, _ = self.themes
        theme = draw.random() * sum(self.themes)
        # At least one thing of a judged split has a held-out (color, shape).
        first = self._thing(draw, rare=self.split in ("tune", "heldout"))
        if theme < one or self.most == 1:
            return [first]
        if theme < one + alike:
            count = 2 + int(draw.random() * min(3, self.most - 1))
            group = [first] * count
            others = int(draw.random() * min(3, self.most - count + 1))
            others = others if count + others <= self.most and self.most > 3 else 0
            return group + [self._thing(draw) for _ in range(others)]
        count = 2 if theme < one + alike + pair else 3 + int(draw.random() * (self.most - 2))
        things = [first]
        while len(things) < count:
            other = self._thing(draw)
            if count > 2 or (other.color, other.shape) != (first.color, first.shape):
                things.append(other)
        return things

    def _thing(self, draw: Random, rare: bool = False) -> Thing:
        allowed = _RARE[self.split] if rare else _SEEN[self.split]
        color = pick(draw, tuple(allowed))
        shape = pick(draw, allowed[color])
        size = pick(draw, self.sizes)
        patterned = size != "small" or self.size >= 128
        fill = "solid"
        if draw.random() >= self.plain and patterned:
            fill = pick(draw, v.SMALL_FILLS[shape] if size == "small" else v.FILLS[1:])
        return Thing(shape, color, size, fill, 0, 0, pick(draw, v.SIZES[size]))

    def _word(self, draw: Random) -> Word:
        longest = 3 if self.size < 128 else 6
        while True:
            length = 1 + int(draw.random() * longest)
            text = "".join(pick(draw, v.LETTERS) for _ in range(length))
            if (v.word_split(text) == "train") == (self.split in ("train", "occluded")):
                return Word(text, 0, 0)

    @property
    def _gap(self) -> float:
        return -0.6 if self.split == "occluded" else v.GAP

    def _allows(self, things: tuple[Thing, ...]) -> bool:
        """A pair scene of a training split shows no held-out relation."""
        if len(things) != 2 or self.split not in ("train", "occluded"):
            return True
        stated = relation(*things)
        return (
            stated is None or v.relation_split(things[0].shape, stated, things[1].shape) == "train"
        )


def _shapes_of(*splits: str) -> dict[str, tuple[str, ...]]:
    """color -> the shapes it comes with in these splits."""
    table = {c: tuple(s for s in v.SHAPES if v.pair_split(c, s) in splits) for c in v.COLORS}
    return {color: shapes for color, shapes in table.items() if shapes}


_RARE = {"tune": _shapes_of("tune"), "heldout": _shapes_of("heldout")}
_SEEN = {
    "train": _shapes_of("train"),
    "tune": _shapes_of("train", "tune"),
    "heldout": _shapes_of("train", "heldout"),
    "occluded": _shapes_of("train"),
}


def pick(draw: Random, options: Sequence):
    """One of these. (`Random.choice` may change between Python versions; `random()` does not.)"""
    return options[int(draw.random() * len(options))]


def relation(subject: Thing, other: Thing) -> str | None:
    """How `subject` stands to `other`, or None where neither axis wins clearly."""
    dx, dy = subject.x - other.x, subject.y - other.y
    if abs(dy) >= abs(dx) + v.CLEAR:
        return "above" if dy < 0 else "below"
    if abs(dx) >= abs(dy) + v.CLEAR:
        return "left of" if dx < 0 else "right of"
    return None


def stated_relations(things: Sequence[Thing], split: str) -> list[tuple[Thing, str, Thing]]:
    """Every clear relation between two of these; the training split keeps its own only."""
    facts = []
    for a in things:
        for b in things:
            said = relation(a, b) if a is not b else None
            if said and (split != "train" or v.relation_split(a.shape, said, b.shape) == "train"):
                facts.append((a, said, b))
    return facts


def _place(
    draw: Random, things: Sequence[Thing], word: Word | None, *, gap: float
) -> tuple[tuple[Thing, ...], Word | None] | None:
    """Free places for all, or None after too many tries. Big ones look for a place first."""
    boxes: list[tuple[float, float, float, float]] = []
    if word is not None:
        spot = _spot(draw, len(word.text) * v.ADVANCE / 2, 6.0, boxes, gap=v.GAP)
        if spot is None:
            return None
        word = replace(word, x=spot[0], y=spot[1])
    placed: list[Thing | None] = [None] * len(things)
    for position in sorted(range(len(things)), key=lambda i: -things[i].radius):
        thing = things[position]
        spot = _spot(draw, thing.radius, thing.radius, boxes, gap=gap)
        if spot is None:
            return None
        placed[position] = replace(thing, x=spot[0], y=spot[1])
    return tuple(thing for thing in placed if thing is not None), word


def _shrunk(things: list[Thing]) -> list[Thing]:
    """All things of the largest size one size smaller, and solid where they become small."""
    order = list(v.SIZES)
    largest = max(order.index(thing.size) for thing in things)
    if largest == 0:
        return things
    size = order[largest - 1]
    place = {radius: i for i, radius in enumerate(v.SIZES[order[largest]])}
    return [
        thing
        if thing.size != order[largest]
        else replace(
            thing,
            size=size,
            radius=v.SIZES[size][place[thing.radius]],
            fill="solid" if size == "small" else thing.fill,
        )
        for thing in things
    ]


def _spot(
    draw: Random, half_width: float, half_height: float, boxes: list, *, gap: float
) -> tuple[int, int] | None:
    """A center whose box keeps `gap` units (a negative one: a share of itself) to the others."""
    left, top = int(half_width) + 2, int(half_height) + 2
    for _ in range(40):
        x = left + int(draw.random() * (v.UNITS - 2 * left + 1))
        y = top + int(draw.random() * (v.UNITS - 2 * top + 1))
        room = gap if gap >= 0 else gap * half_width
        x0, y0 = x - half_width - room, y - half_height - room
        x1, y1 = x + half_width + room, y + half_height + room
        if all(x1 <= b[0] or b[2] <= x0 or y1 <= b[1] or b[3] <= y0 for b in boxes):
            boxes.append((x - half_width, y - half_height, x + half_width, y + half_height))
            return x, y
    return None
