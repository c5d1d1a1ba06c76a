"""How a picture becomes tiles for a vision tower, and rows for a language model. The one place that
counts: prompts, rows, positions and boxes consume a plan."""

from __future__ import annotations

from dataclasses import dataclass

from diptych.foundation.errors import InvalidValue

Size = tuple[int, int]  # height, width
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """The picture scaled to each of `resizes` in turn, then laid on `size`, its corner at `left`,
    `top`: below zero it is cut off, and what it does not cover is filled."""

    resizes: tuple[Size, ...]
    size: Size
    left: int = 0
    top: int = 0

    @classmethod
    def plain(cls, *resizes: Size) -> Canvas:
        """As large as the scaled picture."""
        return cls(resizes=resizes, size=resizes[-1])


@dataclass(frozen=True)
class Tile:
    """A part of a canvas that the tower sees."""

    canvas: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Whole:
    """All rows of a tile, `rows` x `columns`."""

    tile: int
    rows: int
    columns: int

    @property
    def count(self) -> int:
        """Rows of the language model."""
        return self.rows * self.columns


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """Tiles from `first` on, `across` in each of `down` lines, put together, the padding of
    `top` and `left` rows and columns taken off on either side, scaled to `size` if it differs; each
    line is ended by a newline."""

    first: int
    down: int
    across: int
    top: int
    left: int
    inside: Size
    size: Size

    @property
    def count(self) -> int:
        """Rows of the language model."""
        return self.size[0] * (self.size[1] + 1)


@dataclass(frozen=True)
class Words:
    """What a prompt says between tiles."""

    text: str
    count: int = 0


Segment = Whole | Mosaic | Words


@dataclass(frozen=True)
class TokenPlan:
    """For one picture of `size`. Boxes of answers are places on the first canvas."""

    size: Size
    canvases: tuple[Canvas, ...]
    tiles: tuple[Tile, ...]
    segments: tuple[Segment, ...]

    @property
    def count(self) -> int:
        """Rows of the language model that are the picture's."""
        return sum(segment.count for segment in self.segments)

    def text(self, picture: str) -> str:
        """The picture in a prompt, `picture` for each of its rows."""
        return "".join(
            segment.text if isinstance(segment, Words) else picture * segment.count
            for segment in self.segments
        )

    def check(self, found: int, number: int = 0) -> None:
        """Raises InvalidValue where other than `count` rows were found; `number` of the picture."""
        if found != self.count:
            height, width = self.size
            raise InvalidValue(
                f"Picture {number + 1} ({width} x {height}) takes {self.count} rows in "
                f"{len(self.tiles)} tiles, and {found} were found.",
                do="Is the preprocessing that of the model?",
            )

    def to_source(self, box: Box) -> Box:
        """A box on the first canvas, in pixels, as a box of the picture, clipped to it."""
        canvas, (height, width) = self.canvases[0], self.size
        scaled = canvas.resizes[-1]
        across, down = width / scaled[1], height / scaled[0]
        left, top, right, bottom = box
        return (
            _clipped((left - canvas.left) * across, width),
            _clipped((top - canvas.top) * down, height),
            _clipped((right - canvas.left) * across, width),
            _clipped((bottom - canvas.top) * down, height),
        )

    def from_source(self, box: Box) -> Box:
        """A box of the picture as one on the first canvas."""
        canvas, (height, width) = self.canvases[0], self.size
        scaled = canvas.resizes[-1]
        across, down = scaled[1] / width, scaled[0] / height
        left, top, right, bottom = box
        return (
            left * across + canvas.left, top * down + canvas.top,
            right * across + canvas.left, bottom * down + canvas.top,
        )  # fmt: skip


def _clipped(value: float, most: int) -> float:
    return min(max(value, 0.0), float(most))


def grid_of(canvas: int, down: int, across: int, side: int) -> tuple[Tile, ...]:
    """A canvas cut into squares of `side` pixels, in reading order."""
    return tuple(
        Tile(canvas, (x * side, y * side, (x + 1) * side, (y + 1) * side))
        for y in range(down)
        for x in range(across)
    )
