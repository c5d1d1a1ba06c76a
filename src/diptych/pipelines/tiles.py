"""Pictures beyond memory or beyond what a network was trained on, window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diptych.foundation.errors import InvalidValue
from diptych.pipelines.painting import Asked, Painting
from diptych.pipelines.text_to_image import Call


class Box(NamedTuple):
    """A window of cells: its upper left corner, height and width."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Tiling:
    """Windows of `tile` cells a side that share `overlap` cells with the next. Of those `halo` at
    each inner border are thrown away, for what they lack beyond it, and the rest is blended.
    Raises InvalidValue for what does not fit into each other."""

    tile: int = 64
    overlap: int = 16
    halo: int = 0

    def __post_init__(self) -> None:
        if not (0 <= 2 * self.halo <= self.overlap < self.tile):
            raise InvalidValue(
                f"Windows of {self.tile} cells with {self.overlap} shared and a halo of "
                f"{self.halo} do not fit.",
                do="Choose overlap < tile, and at most half of it as halo.",
            )

    def windows(self, height: int, width: int) -> Iterator[Box]:
        """That cover a picture, the last of a row or column flush with its end."""
        for top in self._starts(height):
            for left in self._starts(width):
                yield Box(top, left, min(self.tile, height), min(self.tile, width))

    def _starts(self, length: int) -> list[int]:
        last = max(0, length - self.tile)
        return [*range(0, last, self.tile - self.overlap), last]

    def weights(self, box: Box, height: int, width: int, times: int = 1) -> Tensor:
        """How much a window counts, [h, w] of `times` as many cells: 1 in the middle, falling
        towards every border that is not the picture's."""
        rows = self._ramp(box.top, box.height, height, times)
        return rows[:, None] * self._ramp(box.left, box.width, width, times)

    def _ramp(self, start: int, length: int, whole: int, times: int) -> Tensor:
        cells = torch.arange(length * times, dtype=torch.float32) + 0.5
        halo, wide = self.halo * times, (self.overlap - 2 * self.halo) * times or 1e-6
        before = ((cells - halo) / wide).clamp(0, 1) if start > 0 else torch.ones_like(cells)
        after = (len(cells) - cells - halo) / wide
        return before * (after.clamp(0, 1) if start + length < whole else 1)


def in_windows(networks: Painting, tiling: Tiling) -> Call:
    """A network asked about overlapping windows, whose words are averaged (MultiDiffusion,
    Bar-Tal et al., 2023, eq. 5, with weights that fall towards a window's border)."""

    def call(x: Tensor, times: Tensor, asked: Sequence[Asked], owners: Sequence[int]) -> Tensor:
        height, width = x.shape[2:]
        total, counted = torch.zeros_like(x, dtype=torch.float32), x.new_zeros(height, width)
        counted = counted.float()
        for box in tiling.windows(height, width):
            rows = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
            part = [one._replace(told=networks.part(one.told, *box)) for one in asked]
            said = networks.ask(x[:, :, *rows].contiguous(), times, part).float()
            weight = tiling.weights(box, height, width).to(x.device)
            total[:, :, *rows] += said * weight
            counted[rows] += weight
        return (total / counted).to(x.dtype)

    return call


def decoded(decode: Callable[[Tensor], Tensor], latent: Tensor, tiling: Tiling) -> Tensor:
    """latent [B, C, h, w] -> image [B, 3, f h, f w], one picture and one window at a time.

    A decoder that sees `halo` cells far and normalizes nothing over the picture gives the same
    pixels as in one piece; one that does (Stable Diffusion's) gives others, near ones.
    """
    height, width = latent.shape[2:]
    pictures: list[Tensor] = []
    for row in latent.split(1):
        total: Tensor | None = None
        counted = latent.new_zeros(0)
        for box in tiling.windows(height, width):
            part = row[:, :, box.top : box.top + box.height, box.left : box.left + box.width]
            image = decode(part.contiguous()).float()
            factor = image.shape[2] // box.height
            if total is None:
                size = (height * factor, width * factor)
                total, counted = image.new_zeros(1, image.shape[1], *size), image.new_zeros(size)
            weight = tiling.weights(box, height, width, factor).to(image.device)
            rows = slice(box.top * factor, (box.top + box.height) * factor)
            columns = slice(box.left * factor, (box.left + box.width) * factor)
            total[:, :, rows, columns] += image * weight
            counted[rows, columns] += weight
        assert total is not None
        pictures.append((total / counted).to(latent.dtype))
    return torch.cat(pictures)
