"""Between matrices that files have in one and networks in parts, or the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diptych.adapters.changes import Fixed, Full, LowRank, Shape

Pieces = Sequence[tuple[int, int]]
"""Rows of a matrix from, to; what is made of them has them in this order."""


@dataclass(frozen=True, eq=False)
class Rows(Fixed):
    """Of a change to a matrix that is fused in files: the rows that are ours."""

    change: Fixed
    whole: Shape
    pieces: tuple[tuple[int, int], ...]

    @property
    def rank(self) -> int:
        return self.change.rank

    @property
    def shape(self) -> Shape:
        return sum(stop - begin for begin, stop in self.pieces), *self.whole[1:]

    def delta(self, shape: Shape, kind: torch.dtype = torch.float32) -> Tensor:
        return taken(self.change.delta(self.whole, kind), self.pieces).reshape(shape)


@dataclass(frozen=True, eq=False)
class Stacked(Fixed):
    """Of a matrix that is fused here: changes of its parts, each with its count of rows; None
    for a part that stays."""

    parts: tuple[tuple[Fixed | None, int], ...]

    @property
    def rank(self) -> int:
        return max((part.rank for part, _ in self.parts if part is not None), default=0)

    @property
    def shape(self) -> Shape:
        rest = next((part.shape[1:] for part, _ in self.parts if part is not None), ())
        return sum(rows for _, rows in self.parts), *rest

    def delta(self, shape: Shape, kind: torch.dtype = torch.float32) -> Tensor:
        columns = shape[1:]
        return torch.cat(
            [
                torch.zeros((rows, *columns), dtype=kind)
                if part is None
                else part.delta((rows, *columns), kind)
                for part, rows in self.parts
            ]
        )


def rows_of(change: Fixed, whole: Shape, pieces: Pieces) -> Fixed:
    """A change of a fused matrix of shape `whole` -> of the rows that are ours. LoRA's keep their
    `down` and share it."""
    if isinstance(change, LowRank):
        return replace(change, up=taken(change.up, pieces))
    if isinstance(change, Full):
        return replace(change, diff=taken(change.diff, pieces))
    return Rows(change, whole, tuple(pieces))


def stacked(parts: Sequence[tuple[Fixed | None, int]]) -> Fixed:
    """Changes of parts of a fused matrix, with their counts of rows -> of the whole: of plain
    LoRAs one with a block-diagonal `up`."""
    found = [part for part, _ in parts if part is not None]
    if not all(isinstance(part, LowRank) and part.mid is None for part in found):
        return Stacked(tuple(parts))
    ups: list[Tensor] = []
    downs: list[Tensor] = []
    for part, rows in parts:
        if isinstance(part, LowRank):
            up = part.up.flatten(1)
            # A product of its own scale: alpha is one number for all.
            kind = torch.promote_types(up.dtype, torch.float32)
            ups.append(up if part.scale == 1 else up.to(kind) * part.scale)
            downs.append(part.down)
        else:
            ups.append(torch.zeros(rows, 0))
    return LowRank(torch.block_diag(*ups), torch.cat(downs))


def taken(tensor: Tensor, pieces: Pieces) -> Tensor:
    """Rows of a tensor: a view of it where there is one piece."""
    parts = [tensor[begin:stop] for begin, stop in pieces]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
