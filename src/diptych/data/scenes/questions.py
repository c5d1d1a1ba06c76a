"""Questions with answers, balanced so that one who does not look scores at chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.captions import NUMBERS, SAID, phrase, plural
from diptych.data.scenes.world import Scene, Thing, pick, stated_relations


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a scene, and the only right answer."""

    kind: str
    text: str
    answer: str


def ask(scene: Scene, draw: Random, kind: str, split: str = "train") -> Question | None:
    """A question of this kind, or None where the scene gives no fair one.

    Relations that the training split holds out are asked for in the other splits only.
    """
    made = _relation(scene, draw, split) if kind == "relation" else KINDS[kind](scene, draw)
    return Question(kind, *made) if made else None


def questions(scene: Scene, draw: Random, split: str = "train") -> list[Question]:
    """One question of every kind that the scene can be fairly asked."""
    asked = (ask(scene, draw, kind, split) for kind in KINDS)
    return [question for question in asked if question is not None]


def _wanted(draw: Random) -> bool:
    return draw.random() < 0.5


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def _exist(scene: Scene, draw: Random) -> tuple[str, str]:
    truth = _wanted(draw)
    there = {(thing.color, thing.shape) for thing in scene.things}
    if truth:
        color, shape = pick(draw, sorted(there))
    else:
        # Half of the absent ones share a color or a shape with what is there.
        color, shape = pick(draw, sorted(there))
        while (color, shape) in there:
            if draw.random() < 0.5:
                color = pick(draw, tuple(v.COLORS))
            else:
                shape = pick(draw, v.SHAPES)
    name = phrase(1, color, shape=shape)
    form = pick(draw, ("is there {}?", "do you see {}?"))
    return form.format(name), _yes(truth)


# The share of scenes of each number that is kept, so that each is the answer as often: of 0 to 4
# things of a kind, and of 1 to 6 things in all.
_KEEP = (0.09, 0.105, 0.34, 0.65, 1.0)
_KEEP_ALL = (0.0, 0.48, 0.36, 0.8, 0.61, 0.78, 1.0)


def _count(scene: Scene, draw: Random) -> tuple[str, str] | None:
    """A number is drawn first, then something that comes so often."""
    if draw.random() < 0.5:
        number = len(scene.things)
        form = pick(draw, ("how many objects are there?", "how many objects?"))
        return (form, str(number)) if draw.random() < _KEEP_ALL[number] else None
    number = int(draw.random() * len(_KEEP))
    names = pick(draw, (_shape_counts, _color_counts, _both_counts))(scene)
    fitting = sorted(name for name, count in names.items() if count == number)
    if not fitting or draw.random() >= _KEEP[number]:
        return None
    form = pick(draw, ("how many {} are there?", "how many {}?"))
    return form.format(pick(draw, fitting)), str(number)


def _shape_counts(scene: Scene) -> dict[str, int]:
    return {plural(s): sum(thing.shape == s for thing in scene.things) for s in v.SHAPES}


def _color_counts(scene: Scene) -> dict[str, int]:
    return {f"{c} objects": sum(thing.color == c for thing in scene.things) for c in v.COLORS}


def _both_counts(scene: Scene) -> dict[str, int]:
    there = [(thing.color, thing.shape) for thing in scene.things]
    near = {(c, s) for c, _ in there for _, s in there} | {
        (c, s) for c, _ in there for s in v.SHAPES
    }
    return {f"{c} {plural(s)}": there.count((c, s)) for c, s in near}


def _alone(scene: Scene, key: Callable[[Thing], object]) -> list[Thing]:
    keys = [key(thing) for thing in scene.things]
    return [t for t, k in zip(scene.things, keys, strict=True) if keys.count(k) == 1]


def _color(scene: Scene, draw: Random) -> tuple[str, str] | None:
    alone = _alone(scene, lambda thing: thing.shape)
    if not alone:
        return None
    thing = pick(draw, alone)
    form = pick(draw, ("what color is the {}?", "which color does the {} have?"))
    return form.format(thing.shape), thing.color


def _shape(scene: Scene, draw: Random) -> tuple[str, str] | None:
    alone = _alone(scene, lambda thing: thing.color)
    if not alone:
        return None
    thing = pick(draw, alone)
    form = pick(draw, ("what shape is the {} object?", "which shape is {}?"))
    return form.format(thing.color), thing.shape


def _named(thing: Thing) -> str:
    return f"{thing.color} {thing.shape}"


def _evenly(
    draw: Random, things: list[Thing], names: tuple[str, ...], of: Callable
) -> Thing | None:
    """A thing whose trait is drawn first, so that common traits are not asked for more often."""
    wanted = pick(draw, names)
    fitting = [thing for thing in things if of(thing) == wanted]
    return pick(draw, fitting) if fitting else None


def _size(scene: Scene, draw: Random) -> tuple[str, str] | None:
    alone = _alone(scene, _named)
    thing = _evenly(draw, alone, tuple(v.SIZES), lambda thing: thing.size)
    if thing is None or draw.random() >= {"small": 0.36, "medium": 0.5, "large": 0.66}[thing.size]:
        return None
    form = pick(draw, ("what size is the {}?", "how big is the {}?"))
    return form.format(_named(thing)), thing.size


def _fill(scene: Scene, draw: Random) -> tuple[str, str] | None:
    thing = _evenly(draw, _alone(scene, _named), v.FILLS, lambda thing: thing.fill)
    if thing is None or draw.random() >= (0.19 if thing.fill == "solid" else 1):
        return None
    form = pick(draw, ("how is the {} filled?", "what fill does the {} have?"))
    return form.format(_named(thing)), thing.fill


def _relation(scene: Scene, draw: Random, split: str = "train") -> tuple[str, str] | None:
    facts = stated_relations(_alone(scene, _named), split)
    if not facts:
        return None
    a, said, b = pick(draw, facts)
    truth = _wanted(draw)
    said = said if truth else v.OPPOSITE[said]
    return f"is the {_named(a)} {pick(draw, SAID[said])} the {_named(b)}?", _yes(truth)


def _compare(scene: Scene, draw: Random) -> tuple[str, str] | None:
    return pick(draw, (_more, _larger))(scene, draw)


def _more(scene: Scene, draw: Random) -> tuple[str, str] | None:
    counts = {s: sum(t.shape == s for t in scene.things) for s in v.SHAPES}
    there = [shape for shape in v.SHAPES if counts[shape]]
    pairs = [(a, b) for a in there for b in there if counts[a] > counts[b]]
    if not pairs:
        return None
    a, b = pick(draw, pairs)
    truth = _wanted(draw)
    a, b = (a, b) if truth else (b, a)
    return f"are there more {plural(a)} than {plural(b)}?", _yes(truth)


def _larger(scene: Scene, draw: Random) -> tuple[str, str] | None:
    alone = _alone(scene, _named)
    order = list(v.SIZES)
    pairs = [(a, b) for a in alone for b in alone if order.index(a.size) > order.index(b.size)]
    if not pairs:
        return None
    a, b = pick(draw, pairs)
    truth = _wanted(draw)
    form = pick(draw, ("larger", "smaller"))
    if (form == "larger") != truth:
        a, b = b, a
    return f"is the {_named(a)} {form} than the {_named(b)}?", _yes(truth)


def _read(scene: Scene, draw: Random) -> tuple[str, str] | None:
    form = pick(draw, ("what does it say?", "which word is written?"))
    return (form, scene.word.text) if scene.word is not None else None


def _background(scene: Scene, draw: Random) -> tuple[str, str]:
    form = pick(draw, ("what color is the background?", "which color is the background?"))
    return form, scene.background


KINDS: dict[str, Callable[[Scene, Random], tuple[str, str] | None]] = {
    "exist": _exist,
    "count": _count,
    "color": _color,
    "shape": _shape,
    "size": _size,
    "fill": _fill,
    "relation": _relation,
    "compare": _compare,
    "read": _read,
    "background": _background,
}

# What one who does not look reaches at best, by kind.
CHANCE: dict[str, float] = {
    "exist": 1 / 2, "count": 1 / 5, "color": 1 / 10, "shape": 1 / 8, "size": 1 / 3,
    "fill": 1 / 4, "relation": 1 / 2, "compare": 1 / 2, "read": 1 / 1000, "background": 1 / 5,
}  # fmt: skip


_GLUE = """a an the there is are picture of word on background and at in top bottom middle do you
see how many objects object what which color does have shape size big fill filled more than larger
smaller it say written yes no to"""


def words() -> list[str]:
    """Every word that sentences, questions and answers of this world are made of, sorted."""
    said = {*v.COLORS, *v.SIZES, *v.FILLS, *v.BACKGROUNDS, *NUMBERS[1:], *v.SHAPES}
    said |= {plural(shape) for shape in v.SHAPES}
    said |= {word for forms in SAID.values() for form in forms for word in form.split()}
    return sorted(said | set(_GLUE.split()))
