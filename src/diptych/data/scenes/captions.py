"""Scenes become sentences: short, relational and detailed, in varied wording.

Every sentence written here is understood by `grammar.parse`.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.world import Scene, Thing, pick, relation, stated_relations

NUMBERS = ("no", "a", "two", "three", "four", "five", "six")
OPENINGS = ("", "", "there is ", "a picture of ")
SAID: dict[str, tuple[str, ...]] = {
    "above": ("above", "over"),
    "below": ("below", "under"),
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
}
PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the middle", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)


@dataclass(frozen=True, kw_only=True)
class Wording:
    """How often what may be said is said."""

    size: float = 0.5
    fill: float = 1.0  # of fills other than solid; solid is said in detailed captions only
    background: float = 0.15
    relation: float = 0.5  # of pairs that stand clearly


def plural(shape: str) -> str:
    """circle -> circles, cross -> crosses."""
    return shape + ("es" if shape.endswith("s") else "s")


def phrase(count: int, *adjectives: str, shape: str, article: str = "") -> str:
    """(1, "large", "red", shape="circle") -> "a large red circle"."""
    words = [word for word in adjectives if word]
    words.append(shape if count == 1 else plural(shape))
    lead = article or NUMBERS[count]
    if lead == "a" and words[0][0] in "aeiou":
        lead = "an"
    return " ".join([lead, *words])


def short(scene: Scene, draw: Random, wording: Wording = Wording()) -> str:
    """Everything that is there, by count, color and shape, sometimes by size and relation."""
    groups = grouped(scene)
    stated = _stated(groups) if scene.word is None and draw.random() < wording.relation else None
    opening = pick(draw, OPENINGS)
    first_is_many = len(groups[0]) > 1
    if opening == "there is " and first_is_many:
        opening = "there are "
    if stated is not None:
        flip = draw.random() < 0.5
        a, b = (groups[1], groups[0]) if flip else (groups[0], groups[1])
        said = pick(draw, SAID[v.OPPOSITE[stated] if flip else stated])
        body = f"{_group(a, draw, wording)} {said} {_group(b, draw, wording)}"
        opening = "there is " if opening == "there are " else opening
    else:
        items = [_group(group, draw, wording) for group in groups]
        if scene.word is not None:
            items.append(f'the word "{scene.word.text}"')
        body = joined(items)
    ground = f" on a {scene.background} background" if draw.random() < wording.background else ""
    return opening + body + ground


def detailed(scene: Scene, draw: Random) -> str:
    """Every thing by size, fill, color, shape and place; the word; the background."""
    items = []
    for thing in sorted(scene.things, key=_reading_order):
        name = phrase(1, thing.size, thing.fill, thing.color, shape=thing.shape)
        items.append(f"{name} {place(thing.x, thing.y)}")
    if scene.word is not None:
        items.append(f'the word "{scene.word.text}" {place(scene.word.x, scene.word.y)}')
    ground = f"on a {scene.background} background"
    opening = pick(draw, ("", "there is ", "a picture of "))
    return f"{opening}{joined(items)}, {ground}"


def relational(scene: Scene, draw: Random, split: str = "train") -> str | None:
    """How one thing stands to one or two others, or None where nothing stands clearly alone."""
    alone = [group[0] for group in grouped(scene) if len(group) == 1]
    facts: dict[Thing, list[str]] = {}
    for a, said, b in stated_relations(alone, split):
        other = phrase(1, b.color, shape=b.shape, article="the")
        facts.setdefault(a, []).append(f"{pick(draw, SAID[said])} {other}")
    if not facts:
        return None
    subject = pick(draw, list(facts))
    chosen = facts[subject]
    start = int(draw.random() * len(chosen))
    chosen = (chosen[start:] + chosen[:start])[: 1 + int(draw.random() * 2)]
    name = phrase(1, subject.color, shape=subject.shape, article="the")
    return f"{name} is {' and '.join(chosen)}"


def grouped(scene: Scene) -> list[list[Thing]]:
    """Things of one color and shape together, in reading order."""
    groups: dict[tuple[str, str], list[Thing]] = {}
    for thing in sorted(scene.things, key=_reading_order):
        groups.setdefault((thing.color, thing.shape), []).append(thing)
    return list(groups.values())


def place(x: float, y: float) -> str:
    """The ninth of the picture that a center in units lies in, in words."""
    return PLACES[min(int(y * 3 / v.UNITS), 2)][min(int(x * 3 / v.UNITS), 2)]


def joined(items: list[str]) -> str:
    """a | a and b | a, b and c"""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _reading_order(thing: Thing) -> tuple[int, int]:
    return thing.y, thing.x


def _stated(groups: list[list[Thing]]) -> str | None:
    """The relation of the first to the second of exactly two things that differ."""
    if len(groups) != 2 or len(groups[0]) + len(groups[1]) != 2:
        return None
    return relation(groups[0][0], groups[1][0])


def _group(things: list[Thing], draw: Random, wording: Wording) -> str:
    sizes, fills = {thing.size for thing in things}, {thing.fill for thing in things}
    size = next(iter(sizes)) if len(sizes) == 1 and draw.random() < wording.size else ""
    fill = next(iter(fills)) if len(fills) == 1 and fills != {"solid"} else ""
    if fill and draw.random() >= wording.fill:
        fill = ""
    return phrase(len(things), size, fill, things[0].color, shape=things[0].shape)
