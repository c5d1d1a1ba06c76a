"""Whether a picture is what was asked for: each claim against what is seen in the pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
from numpy.typing import NDArray

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.captions import NUMBERS, phrase
from diptych.data.scenes.claims import Claims, Group
from diptych.data.scenes.grammar import parse
from diptych.data.scenes.letters import Letters, read, word_of
from diptych.data.scenes.recognize import paint_of, recognize
from diptych.data.scenes.segment import at_work_size, background_of, blobs
from diptych.data.scenes.templates import indistinct
from diptych.data.scenes.world import Scene, Thing, Word

KINDS = (
    "object", "color", "shape", "size", "fill",
    "count", "relation", "word", "background", "nothing else",
)  # fmt: skip
SPECK = 2.5  # units of area below which a faint or tiny blob is dirt, not a thing
TRIES = 20_000  # ways to deal things out to groups before the judge gives up


@dataclass(frozen=True, slots=True)
class Seen:
    """What a picture shows. `malformed` has a sentence for each blob that is no clean thing."""

    things: tuple[Thing, ...]
    word: Word | None
    background: str | None
    malformed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that was claimed, in words, and whether it holds. `kind` is one of `KINDS`."""

    kind: str
    text: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """Every part of what was asked; `right` if all hold and nothing is malformed."""

    parts: tuple[Part, ...]
    right: bool
    seen: Seen


def see(picture: NDArray[np.uint8]) -> Seen:
    """The things, the word and the background of a picture `[S, S, 3]` uint8.

    Raises InvalidValue for another shape or type.
    """
    pixels = at_work_size(picture).astype(np.float32)
    scale = pixels.shape[0] / v.UNITS
    background, name = background_of(pixels)
    things: list[Thing] = []
    letters: list[Letters] = []
    malformed: list[str] = [] if name else ["The background has no color that has a name."]
    for blob in blobs(pixels, background):
        if (blob.strength * blob.mask).sum() < SPECK * scale**2 * 128:
            continue
        paint = paint_of(blob, background)
        fragment = read(blob, background, scale) if paint.name == "black" else None
        if fragment is not None:
            letters.append(fragment)
            continue
        thing, complaint = recognize(blob, paint, background, scale)
        if thing is None:
            malformed.append(complaint)
        else:
            things.append(thing)
    word, complaint = word_of(letters)
    if complaint:
        malformed.append(complaint)
    return Seen(tuple(things), word, name, tuple(malformed))


def check(picture: NDArray[np.uint8], prompt: str) -> Verdict:
    """Judge a picture by a sentence. Raises InvalidValue if the sentence is not understood."""
    return judge(picture, parse(prompt))


def judge(picture: NDArray[np.uint8], claims: Claims) -> Verdict:
    """Judge a picture `[S, S, 3]` uint8 by claims."""
    return holds(claims, see(picture))


def holds(claims: Claims, scene: Scene | Seen) -> Verdict:
    """The same claims against a truth graph, or against what was already seen.

    Everything asked for must be there, each thing once, and nothing else. Relations hold where
    their axis is the larger of the two, for every pair of the two groups.
    """
    seen = scene if isinstance(scene, Seen) else Seen(scene.things, scene.word, scene.background)
    dealt = _deal(claims, seen.things)
    over = [k for k in range(len(seen.things)) if not any(k in chosen for chosen in dealt)]
    parts: list[Part] = []
    for group, chosen in zip(claims.groups, dealt, strict=True):
        parts += _group_parts(group, seen.things, chosen, over)
    for a, name, b in claims.relations:
        text = f"{_said(claims.groups[a])} {name} {_said(claims.groups[b])}"
        parts.append(Part("relation", text, _related(seen.things, dealt, a, name, b)))
    if claims.word is not None:
        same = seen.word is not None and seen.word.text == claims.word
        parts.append(Part("word", f'the word "{claims.word}"', same))
    if claims.background is not None:
        text = f"a {claims.background} background"
        parts.append(Part("background", text, seen.background == claims.background))
    alone = not over and (seen.word is None or claims.word is not None)
    parts.append(Part("nothing else", "nothing else", alone))
    right = all(part.holds for part in parts) and not seen.malformed
    return Verdict(tuple(parts), right, seen)


_ASPECTS: dict[str, Callable[[Thing, Group], bool]] = {
    "color": lambda thing, group: group.color in (None, thing.color),
    "shape": lambda thing, group: group.shape in (None, thing.shape),
    "size": lambda thing, group: group.size in (None, thing.size),
    "fill": lambda thing, group: (
        group.fill in (None, thing.fill)
        or indistinct(thing.shape, thing.size, thing.fill, group.fill)
    ),
}
# What a thing that is wrong in part is most likely to be: shape names it, then color.
_WEIGHTS = {"shape": 8, "color": 6, "fill": 2, "size": 1}


def _agreement(thing: Thing, group: Group) -> int:
    return sum(weight for k, weight in _WEIGHTS.items() if _ASPECTS[k](thing, group))


def _fits(thing: Thing, group: Group) -> bool:
    return all(agrees(thing, group) for agrees in _ASPECTS.values())


def _said(group: Group) -> str:
    words = (group.size or "", group.fill or "", group.color or "")
    count = group.count if group.count < len(NUMBERS) else 0
    text = phrase(count, *words, shape=group.shape or "object")
    return text if count == group.count else text.replace(NUMBERS[0], str(group.count), 1)


def _group_parts(
    group: Group, things: tuple[Thing, ...], chosen: Sequence[int], over: Sequence[int]
) -> list[Part]:
    """What is said of one group, against the things dealt to it and those dealt to none."""
    text = _said(group)
    if group.count == 0:
        return [Part("count", text, not any(_fits(thing, group) for thing in things))]
    mine = [things[k] for k in chosen]
    parts = [Part("object", text, any(_fits(thing, group) for thing in mine))]
    for kind, agrees in _ASPECTS.items():
        stated = getattr(group, kind)
        if stated is not None:
            held = bool(mine) and all(agrees(thing, group) for thing in mine)
            parts.append(Part(kind, stated, held))
    more = sum(_fits(things[k], group) for k in over)
    parts.append(Part("count", text, len(mine) + more == group.count))
    return parts


def _related(
    things: tuple[Thing, ...], dealt: Sequence[Sequence[int]], a: int, name: str, b: int
) -> bool:
    """Whether every thing of group `a` stands so to every thing of group `b`."""
    across, down = v.RELATIONS[name]
    for subject in (things[k] for k in dealt[a]):
        for other in (things[k] for k in dealt[b]):
            dx, dy = subject.x - other.x, subject.y - other.y
            main, side = (dx * across, dy) if across else (dy * down, dx)
            if main <= abs(side):
                return False
    return bool(dealt[a]) and bool(dealt[b])


def _deal(claims: Claims, things: tuple[Thing, ...]) -> Sequence[Sequence[int]]:
    """Which things are meant by each group: such that all fit and the relations hold, if any
    choice lets them; such that all fit; or else the nearest ones, for the sake of the report."""
    fitting = [[k for k, thing in enumerate(things) if _fits(thing, group)]
               for group in claims.groups]  # fmt: skip
    first = None
    for dealt in islice(_exact(claims.groups, fitting, {}), TRIES):
        if all(_related(things, dealt, *stated) for stated in claims.relations):
            return dealt
        first = first or dealt
    return first or _nearest(claims.groups, things)


def _exact(
    groups: tuple[Group, ...], fitting: list[list[int]], chosen: dict[int, tuple[int, ...]]
) -> Iterator[list[tuple[int, ...]]]:
    """Every way to give each group as many fitting things as it counts, none of them twice.

    The group with the fewest left to choose from chooses first, so that dead ends come early.
    """
    if len(chosen) == len(groups):
        yield [chosen[i] for i in range(len(groups))]
        return
    taken = {k for part in chosen.values() for k in part}
    free = {i: [k for k in fitting[i] if k not in taken]
            for i in range(len(groups)) if i not in chosen}  # fmt: skip
    if any(len(some) < groups[i].count for i, some in free.items()):
        return
    least = min(free, key=lambda i: len(free[i]) - groups[i].count)
    for some in combinations(free[least], groups[least].count):
        yield from _exact(groups, fitting, chosen | {least: some})


def _nearest(groups: tuple[Group, ...], things: tuple[Thing, ...]) -> list[list[int]]:
    dealt: list[list[int]] = [[] for _ in groups]
    pairs = sorted((-_agreement(thing, group), i, k) for i, group in enumerate(groups)
                   for k, thing in enumerate(things))  # fmt: skip
    taken: set[int] = set()
    for _, i, k in pairs:
        if k not in taken and len(dealt[i]) < groups[i].count:
            dealt[i].append(k)
            taken.add(k)
    return dealt
