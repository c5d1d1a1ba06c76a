"""Pictures with one thing gone wrong, as a generator may paint them, and truth made unclean.

Every function is pure in its `Random`. A malformed picture returns the scene it was asked to be.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.render import render
from diptych.data.scenes.shapes import distance
from diptych.data.scenes.world import Scene, Thing, World, pick

Picture = NDArray[np.uint8]
Field = NDArray[np.float32]


def half_morphed(scene: Scene, size: int, draw: Random) -> Picture:
    """One thing is drawn from distances half-way between its shape and another."""
    k = _some(scene, draw)
    thing = scene.things[k]
    other = pick(draw, [shape for shape in v.SHAPES if shape != thing.shape])
    across, down, scale = _grid(thing, size)
    edge = (distance(thing.shape, thing.radius * scale, across, down)
            + distance(other, thing.radius * scale, across, down)) / 2  # fmt: skip
    return _painted(_without(scene, k), size, _cover(edge), thing.color)


def half_erased(scene: Scene, size: int, draw: Random) -> Picture:
    """Half of one thing is background."""
    k = _some(scene, draw)
    side = _side(scene.things[k], size, draw.random() * math.tau, 0.0)
    return _blended(render(scene, size), render(_without(scene, k), size), side)


def merged(scene: Scene, size: int, draw: Random) -> Picture:
    """Another thing lies half over one."""
    k = _some(scene, draw)
    thing = scene.things[k]
    angle, reach = draw.random() * math.tau, thing.radius * (0.6 + 0.6 * draw.random())
    over = replace(
        thing,
        shape=pick(draw, v.SHAPES),
        color=pick(draw, tuple(v.COLORS)),
        x=round(min(max(thing.x + reach * math.cos(angle), 8), 56)),
        y=round(min(max(thing.y + reach * math.sin(angle), 8), 56)),
    )
    return render(replace(scene, things=(*scene.things, over)), size)


def stray_blob(scene: Scene, size: int, draw: Random) -> Picture:
    """A spot of 1.5 to 3 units of radius where nothing should be."""
    spot = _free(scene, 1.5 + 1.5 * draw.random(), draw)
    across, down, scale = _grid(spot, size)
    edge = np.hypot(across, down) - spot.radius * scale
    return _painted(scene, size, _cover(edge), pick(draw, tuple(v.COLORS)))


def torn_ring(scene: Scene, size: int, draw: Random) -> Picture:
    """One thing is an outline with a gap of 40 to 80 degrees."""
    k = _some(scene, draw)
    thing = scene.things[k]
    if thing.size == "small":
        thing = replace(thing, size="medium", radius=9.5)
    thing = replace(thing, fill="outlined")
    whole = replace(scene, things=(*scene.things[:k], thing, *scene.things[k + 1 :]))
    across, down, _ = _grid(thing, size)
    middle, half = draw.random() * math.tau, math.radians(20 + 20 * draw.random())
    if thing.shape == "moon":  # its mouth is open anyway
        middle = math.pi + (middle - math.pi) / 3
    turn = np.abs((np.arctan2(down, across) - middle + math.pi) % math.tau - math.pi)
    gap = (turn < half).astype(np.float32)
    return _blended(render(whole, size), render(_without(scene, k), size), gap)


def mixed_color(scene: Scene, size: int, draw: Random) -> Picture:
    """One thing has two colors, each on 30 % of it or more."""
    k = _some(scene, draw)
    thing = scene.things[k]
    second = replace(thing, color=pick(draw, [c for c in v.COLORS if c != thing.color]))
    offset = (draw.random() - 0.5) * 0.5 * thing.radius * size / v.UNITS
    side = _side(thing, size, draw.random() * math.tau, offset)
    other = replace(scene, things=(*scene.things[:k], second, *scene.things[k + 1 :]))
    return _blended(render(scene, size), render(other, size), side)


def extra_copy(scene: Scene, size: int, draw: Random) -> Picture:
    """One thing is there once more than asked."""
    thing = scene.things[_some(scene, draw)]
    spot = _free(scene, thing.radius, draw)
    copy = replace(thing, x=spot.x, y=spot.y, radius=spot.radius)
    return render(replace(scene, things=(*scene.things, copy)), size)


MALFORMED: dict[str, Callable[[Scene, int, Random], Picture]] = {
    "half-morphed shape": half_morphed,
    "half erased": half_erased,
    "two merged": merged,
    "stray blob": stray_blob,
    "torn ring": torn_ring,
    "mixed color": mixed_color,
    "extra copy": extra_copy,
}


def roomy(seed: int, index: int) -> Scene:
    """A scene of one to three things of a held-out combination: there is room for one more."""
    return World(split="heldout", most=3, words=0.15).scene(seed, index)


def jpeg(picture: Picture, subsampling: int = 0) -> Picture:
    """Through JPEG of quality 75, with chroma 4:4:4 or (2) 4:2:0."""
    stream = BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=75, subsampling=subsampling)
    return np.asarray(Image.open(stream).convert("RGB"))


def blurred(picture: Picture, deviation: float = 0.7) -> Picture:
    """Gaussian blur, in pixels."""
    return _uint8(_smooth(picture.astype(np.float32), deviation))


def noisy(picture: Picture, seed: int, deviation: float = 4.0) -> Picture:
    """Gaussian noise, in 1/255."""
    noise = np.random.default_rng(seed).normal(0, deviation, picture.shape)
    return _uint8(picture + noise)


def decoded(scene: Scene, size: int, seed: int) -> Picture:
    """Truth as a good decoder paints it: radii between the classes' own, edges that wobble by
    about half a pixel, a blur of 0.6 to 1 px, each channel shifted by up to 5 (things by 12).
    """
    draw = np.random.default_rng(seed)
    things = tuple(
        replace(t, radius=t.radius + float(draw.uniform(-0.4, 0.4))) for t in scene.things
    )
    picture = render(replace(scene, things=things), size).astype(np.float32)
    moves = [_smooth(draw.normal(0, 1, (size, size, 1)), 3.0)[..., 0] for _ in range(2)]
    moves = [move / np.abs(move).max() * 0.7 for move in moves]
    picture = _smooth(_moved(picture, *moves), float(draw.uniform(0.6, 1.0)))
    apart = np.abs(picture - np.array(v.BACKGROUNDS[scene.background])).max(-1, keepdims=True)
    picture += draw.uniform(-5, 5, 3) + draw.uniform(-7, 7, 3) * np.minimum(apart / 128, 1)
    return _uint8(picture + draw.normal(0, 2, picture.shape))


def _some(scene: Scene, draw: Random) -> int:
    return int(draw.random() * len(scene.things))


def _without(scene: Scene, k: int) -> Scene:
    return replace(scene, things=scene.things[:k] + scene.things[k + 1 :])


def _free(scene: Scene, radius: float, draw: Random) -> Thing:
    """A spot that keeps 2 units to everything else; in a full picture a smaller one."""
    boxes = [thing.box for thing in scene.things] + ([scene.word.box] if scene.word else [])
    for attempt in range(4000):
        r = radius * min(1.0, 1.3 - attempt / 4000)
        x = round(r + 2 + draw.random() * (v.UNITS - 2 * r - 4))
        y = round(r + 2 + draw.random() * (v.UNITS - 2 * r - 4))
        if all(
            x + r + 2 <= left or right <= x - r - 2 or y + r + 2 <= top or bottom <= y - r - 2
            for left, top, right, bottom in boxes
        ):
            return Thing("circle", "red", "small", "solid", x, y, r)
    raise ValueError("no room")


def _grid(thing: Thing, size: int) -> tuple[Field, Field, float]:
    scale = size / v.UNITS
    line = np.arange(size, dtype=np.float32) + 0.5
    return (line - thing.x * scale)[None, :], (line - thing.y * scale)[:, None], scale


def _side(thing: Thing, size: int, angle: float, offset: float) -> Field:
    """One on one side of a line near the center of a thing, 0 on the other."""
    across, down, _ = _grid(thing, size)
    return np.clip(across * math.cos(angle) + down * math.sin(angle) + offset + 0.5, 0, 1)


def _cover(edge: Field) -> Field:
    return np.clip(0.5 - edge, 0, 1)


def _painted(scene: Scene, size: int, cover: Field, color: str) -> Picture:
    paint = np.broadcast_to(np.array(v.COLORS[color], np.float32), (size, size, 3))
    return _blended(render(scene, size), paint, cover)


def _blended(below: NDArray, above: NDArray, share: Field) -> Picture:
    below = below.astype(np.float32)
    return _uint8(below + share[..., None] * (above - below))


def _uint8(values: NDArray) -> Picture:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def _smooth(values: NDArray, deviation: float) -> NDArray:
    reach = math.ceil(4 * deviation)
    taps = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * deviation**2))
    taps /= taps.sum()
    for axis in (0, 1):
        pad = [(reach, reach) if a == axis else (0, 0) for a in range(values.ndim)]
        padded = np.pad(values, pad, mode="edge")
        length = values.shape[axis]
        values = sum(
            tap * np.take(padded, range(k, k + length), axis) for k, tap in enumerate(taps)
        )  # type: ignore[assignment]
    return values


def _moved(values: NDArray, dx: NDArray, dy: NDArray) -> NDArray:
    """Bilinear lookup at moved places."""
    size = values.shape[0]
    x = np.clip(np.arange(size)[None, :] + dx, 0, size - 1.001)
    y = np.clip(np.arange(size)[:, None] + dy, 0, size - 1.001)
    i, j = x.astype(int), y.astype(int)
    fx, fy = (x - i)[..., None], (y - j)[..., None]
    top = values[j, i] * (1 - fx) + values[j, i + 1] * fx
    low = values[j + 1, i] * (1 - fx) + values[j + 1, i + 1] * fx
    return top * (1 - fy) + low * fy
