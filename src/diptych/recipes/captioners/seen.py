"""Features of the fixed sets of scenes, kept in files that are mapped into memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.data.scenes.render import render
from diptych.foundation.errors import NotFound
from diptych.foundation.files import write_with
from diptych.models.dual_encoder import DualEncoderNetwork
from diptych.models.region_detector import RegionDetector
from diptych.recipes.captioners.sayings import SETS, WORLD
from diptych.recipes.scenes_batches import to_image

KINDS = ("pooled", "grid", "regions", "boxes", "clip", "patches")
# Places are no features: they stay what they are.
STANDARD = tuple(kind for kind in KINDS if kind != "boxes")
_ROWS = 100


@dataclass(frozen=True)
class Seen:
    """What is seen of each scene of a set, by kind, float16; each channel but those of boxes with
    mean 0 and deviation 1 over the train set.

    pooled [N, 96], the mean of grid [N, 64, 96], and regions [N, 8, 96] with boxes [N, 8, 4] of the
    detector; clip [N, 128] and patches [N, 64, 128] of `scenes-clip`.
    """

    arrays: Mapping[str, NDArray[np.float16]]

    def __len__(self) -> int:
        return len(self.arrays["clip"])

    def rows(self, kinds: tuple[str, ...], numbers: list[int]) -> dict[str, Tensor]:
        """These kinds of these scenes, float32."""
        return {kind: torch.from_numpy(self.arrays[kind][numbers]).float() for kind in kinds}


@lru_cache(maxsize=8)
def seen_of(folder: Path, name: str) -> Seen:
    """What a run of `captioner-eyes` left of a set. Raises NotFound."""
    try:
        return Seen({k: np.load(folder / f"{name}-{k}.npy", mmap_mode="r") for k in KINDS})
    except FileNotFoundError as error:
        raise NotFound(
            f"There are no features of scenes in {str(folder)!r}.",
            do="Train the eyes first: diptych train captioner-eyes.",
        ) from error


def write_seen(folder: Path, detector: RegionDetector, clip: DualEncoderNetwork) -> None:
    """Look at all sets through both; `scales.npz` keeps what was taken off and divided by, so that
    other pictures can be seen alike. Raises NotWritten."""
    scales: dict[str, NDArray[np.float32]] = {}
    for name, some in SETS.items():
        parts = [
            look(detector, clip, [render(some.scene(int(i)), WORLD.size) for i in numbers])
            for numbers in np.array_split(np.arange(some.count), some.count // _ROWS)
        ]
        seen = {kind: np.concatenate([part[kind] for part in parts]) for kind in KINDS}
        scales = scales or {kind: scale_of(seen[kind]) for kind in STANDARD}
        for kind, array in seen.items():
            if kind in scales:
                mean, deviation = scales[kind]
                array = (array - mean) / deviation
            _write(folder / f"{name}-{kind}.npy", array.astype(np.float16))
    write_with(folder / "scales.npz", lambda part: _savez(part, scales))


def scale_of(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean and deviation of each channel [2, C]; one that says nothing is left as it is."""
    axes = tuple(range(array.ndim - 1))
    deviation = array.std(axis=axes)
    return np.stack([array.mean(axis=axes), np.where(deviation > 1e-6, deviation, 1)])


@torch.inference_mode()
def look(
    detector: RegionDetector, clip: DualEncoderNetwork, pictures: list[NDArray[np.uint8]]
) -> dict[str, NDArray[np.float32]]:
    """Pictures [S, S, 3] -> what is seen of each, by kind, as it comes"""
    image = to_image(pictures)
    seen, patches = detector.see(image), clip.vision(image)
    grid = seen.grid.flatten(2).mT
    made = {
        "pooled": grid.mean(1),
        "grid": grid,
        "regions": seen.regions,
        "boxes": seen.boxes,
        "clip": clip.encode_image(image),
        "patches": patches,
    }
    return {kind: tensor.numpy() for kind, tensor in made.items()}


def _write(path: Path, array: NDArray[np.float16]) -> None:
    def save(part: Path) -> None:
        with part.open("wb") as file:
            np.save(file, array)

    write_with(path, save)


def _savez(part: Path, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    with part.open("wb") as file:
        np.savez(file, **dict(arrays))  # pyright: ignore[reportArgumentType]
