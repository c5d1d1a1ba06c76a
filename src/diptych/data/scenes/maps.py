"""What conditions and heads are trained on: edges, depth order, instance masks, keypoints."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diptych.data.scenes.render import visible
from diptych.data.scenes.world import Scene


def instances(scene: Scene, size: int = 64) -> NDArray[np.uint8]:
    """The number of the thing seen at each pixel, from 1; 0 is the background, `[size, size]`."""
    numbers = np.zeros((size, size), np.uint8)
    for number, seen in enumerate(visible(scene, size), 1):
        numbers[seen] = number
    return numbers


def edges(scene: Scene, size: int = 64) -> NDArray[np.bool_]:
    """Where one thing ends and another or the background begins, `[size, size]`."""
    numbers = instances(scene, size)
    edge = np.zeros((size, size), bool)
    for axis in (0, 1):
        step = np.diff(numbers, axis=axis, prepend=numbers.take([0], axis)) != 0
        edge |= step
    return edge


def depth(scene: Scene, size: int = 64) -> NDArray[np.float32]:
    """Nearness in 0..1, `[size, size]`: 0 is the background, 1 the thing painted last."""
    return instances(scene, size).astype(np.float32) / np.float32(max(1, len(scene.things)))


def keypoints(scene: Scene, size: int = 64) -> NDArray[np.float32]:
    """For each thing its top, right, bottom and left extreme and center in pixels, `[N, 5, 2]`
    as (x, y), of its whole silhouette's box."""
    points = np.zeros((len(scene.things), 5, 2), np.float32)
    for row, thing in enumerate(scene.things):
        x, y, r = thing.x, thing.y, thing.radius
        points[row] = [(x, y - r), (x + r, y), (x, y + r), (x - r, y), (x, y)]
    return points * (size / 64)
