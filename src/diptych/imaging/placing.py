"""Where the pixels of a picture go: resized, cut, put onto a larger canvas, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from diptych.foundation.errors import InvalidValue

Size = tuple[int, int]  # width, height
Box = tuple[int, int, int, int]  # left, top, right, bottom; the last two are outside
Region = tuple[float, float, float, float]  # the same in parts of pixels


@dataclass(frozen=True)
class Affine:
    """x -> scale_x * x + shift_x, y alike; edges of pixels, so that a box keeps its area."""

    scale_x: float
    scale_y: float
    shift_x: float
    shift_y: float

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Where a point comes to lie."""
        return self.scale_x * x + self.shift_x, self.scale_y * y + self.shift_y

    def region(self, box: Region) -> Region:
        """Where a box comes to lie, not clipped."""
        left, top = self.point(box[0], box[1])
        right, bottom = self.point(box[2], box[3])
        return left, top, right, bottom

    def inverse(self) -> Affine:
        """The way back."""
        x, y = self.scale_x, self.scale_y
        return Affine(1 / x, 1 / y, -self.shift_x / x, -self.shift_y / y)


@dataclass(frozen=True, kw_only=True)
class Placing:
    """`frame`, a box of the picture, which may reach beyond its edges, is resized to the first of
    `scales`, that to the next; the last one lies at `offset` of a canvas, which cuts it off or has
    margins around it. All sizes are width and height."""

    picture: Size
    frame: Box
    scales: tuple[Size, ...]
    offset: tuple[int, int]
    canvas: Size

    @cached_property
    def to_source(self) -> Affine:
        """From the canvas to the picture."""
        left, top, right, bottom = self.frame
        width, height = self.scales[-1]
        x, y = (right - left) / width, (bottom - top) / height
        return Affine(x, y, left - self.offset[0] * x, top - self.offset[1] * y)

    def source_region(self, box: Region) -> Region:
        """A box of the canvas in pixels of the picture, clipped to it."""
        return _clipped(self.to_source.region(box), self.picture)

    def canvas_region(self, box: Region) -> Region:
        """A box of the picture in pixels of the canvas, clipped to it."""
        return _clipped(self.to_source.inverse().region(box), self.canvas)


def _clipped(box: Region, size: Size) -> Region:
    width, height = size
    left, right = (min(max(x, 0.0), float(width)) for x in (box[0], box[2]))
    top, bottom = (min(max(y, 0.0), float(height)) for y in (box[1], box[3]))
    return left, top, right, bottom


def squeezed(picture: Size, *scales: Size) -> Placing:
    """The whole picture, its sides scaled apart, to each size in turn."""
    frame = (0, 0, *real(picture))
    return Placing(picture=picture, frame=frame, scales=scales, offset=(0, 0), canvas=scales[-1])


def middle(picture: Size, shortest: int, canvas: Size) -> Placing:
    """The shorter side scaled to `shortest`, the longer rounded down, the middle cut out."""
    scaled = shorter_side(real(picture), shortest)
    offset = -((scaled[0] - canvas[0]) // 2), -((scaled[1] - canvas[1]) // 2)
    frame = (0, 0, *picture)
    return Placing(picture=picture, frame=frame, scales=(scaled,), offset=offset, canvas=canvas)


def squared(picture: Size, canvas: Size) -> Placing:
    """Margins make the picture a square, which is resized."""
    width, height = real(picture)
    side = max(width, height)
    left, top = -((side - width) // 2), -((side - height) // 2)
    frame = (left, top, left + side, top + side)
    return Placing(picture=picture, frame=frame, scales=(canvas,), offset=(0, 0), canvas=canvas)


def centered(picture: Size, scaled: Size, canvas: Size) -> Placing:
    """Resized, then in the middle of a canvas that is no smaller."""
    offset = (canvas[0] - scaled[0]) // 2, (canvas[1] - scaled[1]) // 2
    frame = (0, 0, *real(picture))
    return Placing(picture=picture, frame=frame, scales=(scaled,), offset=offset, canvas=canvas)


def shorter_side(picture: Size, shortest: int) -> Size:
    """The size with the shorter side at `shortest` and the longer rounded down."""
    width, height = picture
    if width <= height:
        return shortest, int(shortest * height / width)
    return int(shortest * width / height), shortest


def real(picture: Size) -> Size:
    """The size itself. Raises InvalidValue where a side is below 1."""
    if min(picture) < 1:
        raise InvalidValue(f"There is no picture of {picture[0]} x {picture[1]} pixels.")
    return picture
