"""What a language model sees of one picture, counted: the only place that does.

A planner of a family (`models/<family>/inputs.py`) makes the plan from the picture's size alone.
The prompt, the pixels, the rows that a connector makes, positions and boxes all follow it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from diptych.foundation.errors import InvalidValue
from diptych.imaging.placing import Affine, Box, Placing, Region, Size


@dataclass(frozen=True)
class Tile:
    """What the tower sees at once: `box` of the resized picture. `of`: "cut" takes it out as it
    is; "resized" and "picture" squeeze it whole, from the resized or the original picture."""

    box: Box
    of: Literal["cut", "resized", "picture"] = "cut"


@dataclass(frozen=True)
class Rows:
    """`rows` x `columns` embeddings, row by row, of one tile, or (None) of the plan's grid."""

    tile: int | None
    rows: int
    columns: int


@dataclass(frozen=True)
class Newline:
    """One learnt embedding that ends a row of the grid."""


@dataclass(frozen=True)
class Text:
    """Words between the embeddings of one picture, for the tokenizer."""

    text: str


Segment = Rows | Newline | Text


@dataclass(frozen=True)
class Grid:
    """All cut tiles' features side by side: `height` x `width`, of which `box` shows the picture
    and not its margins. That part is shrunk (bilinear) to `rows` x `columns` where it is larger."""

    height: int
    width: int
    box: Box
    rows: int
    columns: int


@dataclass(frozen=True, kw_only=True)
class TokenPlan:
    """`tiles` in the order of the tower, each shown to it as `tile` (width, height). `segments` in
    the order of the language model. `lowered`: `max_visual_tokens` took resolution away."""

    placing: Placing
    tile: Size
    tiles: tuple[Tile, ...]
    segments: tuple[Segment, ...]
    grid: Grid | None = None
    lowered: bool = False

    def __post_init__(self):
        width, height = self.placing.canvas
        for tile in self.tiles:
            left, top, right, bottom = tile.box
            assert 0 <= left < right <= width and 0 <= top < bottom <= height, tile
            assert tile.of != "cut" or (right - left, bottom - top) == self.tile, tile
        for part in self.segments:
            if isinstance(part, Rows):
                assert self.grid if part.tile is None else part.tile < len(self.tiles), part

    @property
    def picture(self) -> Size:
        """Width and height of the original."""
        return self.placing.picture

    @property
    def resized(self) -> Size:
        """Width and height of what the tiles are boxes of, margins included."""
        return self.placing.canvas

    @property
    def to_source(self) -> Affine:
        """From pixels of the resized picture to those of the original."""
        return self.placing.to_source

    def source_region(self, box: Region) -> Region:
        """A box of the resized picture in pixels of the original, clipped to it."""
        return self.placing.source_region(box)

    def count(self) -> int:
        """Embeddings that come from the picture, those that end rows included, words not."""
        return sum(part for part in self.runs() if isinstance(part, int))

    def runs(self) -> tuple[str | int, ...]:
        """Words and numbers of embeddings in turn, for whoever builds the prompt."""
        merged: list[str | int] = []
        for wordy, parts in groupby(self.segments, key=lambda part: isinstance(part, Text)):
            group = list(parts)
            words = [part.text for part in group if isinstance(part, Text)]
            merged.append("".join(words) if wordy else sum(map(_embeddings, group)))
        return tuple(merged)

    def text(self, placeholder: str) -> str:
        """The words, with one placeholder for each embedding."""
        parts = self.runs()
        return "".join(part if isinstance(part, str) else placeholder * part for part in parts)

    def said(self) -> str:
        """The plan in a few words."""
        width, height = self.resized
        number = len(self.tiles)
        tiles = f"{number} tile{'s' if number > 1 else ''} of {self.tile[0]} x {self.tile[1]}"
        less = ", fewer than its family's, by max_visual_tokens" if self.lowered else ""
        return f"{width} x {height}, {tiles}: {self.count()} visual tokens{less}"

    def check(self, found: int, *, index: int, what: str) -> None:
        """Raise InvalidValue where `found` placeholders or rows (`what`) are not the count."""
        if found == self.count():
            return
        width, height = self.picture
        raise InvalidValue(
            f"Picture {index} ({width} x {height} pixels) is planned as {self.said()}; "
            f"found were {found} {what}.",
            do="Take the prompt and the embeddings of one plan.",
        )


def _embeddings(part: Segment) -> int:
    if isinstance(part, Text):
        return 0
    return part.rows * part.columns if isinstance(part, Rows) else 1


def tiled(canvas: Size, tile: Size) -> tuple[Tile, ...]:
    """The canvas cut into tiles, row by row; it is a multiple of them."""
    assert canvas[0] % tile[0] == 0 and canvas[1] % tile[1] == 0, (canvas, tile)
    return tuple(
        Tile((x, y, x + tile[0], y + tile[1]))
        for y in range(0, canvas[1], tile[1])
        for x in range(0, canvas[0], tile[0])
    )


def too_many(picture: Size, needs: int, most: int) -> InvalidValue:
    """The error of a family that cannot show this picture in so few."""
    return InvalidValue(
        f"A picture of {picture[0]} x {picture[1]} pixels takes at least {needs} visual tokens "
        f"here, and max_visual_tokens is {most}.",
        do=f"Set max_visual_tokens to {needs}.",
    )
