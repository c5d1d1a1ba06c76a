"""A few frames in which one thing moves, with the words for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.captions import phrase
from diptych.data.scenes.world import Scene, Thing, pick

MOTIONS: dict[str, tuple[int, int]] = {
    "moves up": (0, -1),
    "moves down": (0, 1),
    "moves left": (-1, 0),
    "moves right": (1, 0),
    "stands still": (0, 0),
}


@dataclass(frozen=True, slots=True)
class Clip:
    """`frames` of one scene; `motion` is a sentence such as "the red star moves up"."""

    motion: str
    frames: tuple[Scene, ...]


def clip(scene: Scene, draw: Random, frames: int = 6, step: int = 3) -> Clip:
    """One thing moves `step` units a frame as far as it stays clear of the edge and the others;
    where nothing can move, all stands still."""
    options = [
        (number, motion)
        for number in range(len(scene.things))
        for motion, way in MOTIONS.items()
        if motion != "stands still" and _free(scene, number, way, (frames - 1) * step)
    ]
    if not options or draw.random() < 0.1:
        number, motion = int(draw.random() * len(scene.things)), "stands still"
    else:
        number, motion = pick(draw, options)
    dx, dy = MOTIONS[motion]
    thing = scene.things[number]
    scenes = [
        _moved(scene, number, replace(thing, x=thing.x + dx * step * i, y=thing.y + dy * step * i))
        for i in range(frames)
    ]
    name = phrase(1, thing.color, shape=thing.shape, article="the")
    return Clip(f"{name} {motion}", tuple(scenes))


def _moved(scene: Scene, number: int, thing: Thing) -> Scene:
    things = (*scene.things[:number], thing, *scene.things[number + 1 :])
    return replace(scene, things=things)


def _free(scene: Scene, number: int, way: tuple[int, int], distance: int) -> bool:
    """Whether the strip that the thing passes over is inside and clear of all else."""
    left, top, right, bottom = scene.things[number].box
    dx, dy = way[0] * distance, way[1] * distance
    left, right = left + min(dx, 0) - v.GAP, right + max(dx, 0) + v.GAP
    top, bottom = top + min(dy, 0) - v.GAP, bottom + max(dy, 0) + v.GAP
    if min(left, top) < 0 or max(right, bottom) > v.UNITS:
        return False
    others = [thing.box for i, thing in enumerate(scene.things) if i != number]
    if scene.word is not None:
        others.append(scene.word.box)
    return all(right <= b[0] or b[2] <= left or bottom <= b[1] or b[3] <= top for b in others)
