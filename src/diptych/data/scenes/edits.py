"""Pairs of scenes with the instruction that leads from the one to the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.captions import phrase
from diptych.data.scenes.world import Scene, Thing, pick


@dataclass(frozen=True, slots=True)
class Edit:
    """`before` becomes `after` by `instruction`; all that is not named stays as it is."""

    instruction: str
    before: Scene
    after: Scene


def edit(scene: Scene, draw: Random) -> Edit:
    """One change of a scene: a color, a shape, the background, or a thing taken away."""
    alone = [thing for thing in scene.things if _names_one(scene, thing)]
    kinds: list[Callable[[Scene, Thing, Random], Edit | None]] = [_recolor, _reshape, _remove]
    if alone and draw.random() < 0.8:
        made = pick(draw, kinds)(scene, pick(draw, alone), draw)
        if made is not None:
            return made
    ground = pick(draw, [name for name in v.BACKGROUNDS if name != scene.background])
    return Edit(f"make the background {ground}", scene, replace(scene, background=ground))


def _names_one(scene: Scene, thing: Thing) -> bool:
    same = [t for t in scene.things if (t.color, t.shape) == (thing.color, thing.shape)]
    return len(same) == 1


def _named(thing: Thing) -> str:
    return phrase(1, thing.color, shape=thing.shape, article="the")


def _with(scene: Scene, old: Thing, new: Thing | None) -> Scene:
    things = [new if thing is old else thing for thing in scene.things]
    return replace(scene, things=tuple(thing for thing in things if thing is not None))


def _recolor(scene: Scene, thing: Thing, draw: Random) -> Edit:
    color = pick(draw, [name for name in v.COLORS if name != thing.color])
    return Edit(
        f"make {_named(thing)} {color}", scene, _with(scene, thing, replace(thing, color=color))
    )


def _reshape(scene: Scene, thing: Thing, draw: Random) -> Edit:
    shape = pick(draw, [name for name in v.SHAPES if name != thing.shape])
    after = _with(scene, thing, replace(thing, shape=shape))
    return Edit(f"turn {_named(thing)} into {phrase(1, shape=shape)}", scene, after)


def _remove(scene: Scene, thing: Thing, draw: Random) -> Edit | None:
    if len(scene.things) == 1:
        return None
    return Edit(f"remove {_named(thing)}", scene, _with(scene, thing, None))
