"""How LLaVA sees a picture: 1.5 as one square (Liu et al., 2023), NeXT in tiles of the best fitting
shape (Liu et al., 2024), OneVision in tiles whose rows are thinned (Li et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, sqrt

from diptych.foundation.errors import InvalidValue
from diptych.imaging.plan import Canvas, Mosaic, Segment, Size, Tile, TokenPlan, Whole, grid_of


@dataclass(frozen=True, kw_only=True)
class FixedInputs:
    """One square of `side` pixels and `grid` x `grid` rows. `fit`: `squash` the picture, `crop` its
    middle from the shorter side on, or `pad` it to a square first, as the first LLaVA 1.5 was
    trained."""

    side: int = 336
    grid: int = 24
    fit: str = "crop"


def fixed(height: int, width: int, spec: FixedInputs) -> TokenPlan:
    """The plan of one square. Raises InvalidValue for a side of nothing."""
    _there(height, width)
    side = spec.side
    if spec.fit == "squash":
        canvas = Canvas.plain((side, side))
    elif spec.fit == "pad":
        # Scaled as if it had been padded first: the square goes to the tower's side.
        long = max(height, width)
        scaled = max(1, round(height * side / long)), max(1, round(width * side / long))
        canvas = Canvas(
            resizes=(scaled,), size=(side, side),
            left=(side - scaled[1]) // 2, top=(side - scaled[0]) // 2,
        )  # fmt: skip
    else:
        short = min(height, width)
        scaled = (int(side * height / short), int(side * width / short))
        canvas = Canvas(
            resizes=(scaled,), size=(side, side),
            left=-((scaled[1] - side) // 2), top=-((scaled[0] - side) // 2),
        )  # fmt: skip
    tile = Tile(0, (0, 0, side, side))
    return TokenPlan((height, width), (canvas,), (tile,), (Whole(0, spec.grid, spec.grid),))


@dataclass(frozen=True, kw_only=True)
class AnyresInputs:
    """Tiles of `side` pixels and `grid` x `grid` rows, laid in one of `shapes`, heights and widths
    in pixels. `most`: OneVision's, so many tiles' worth of rows at most, 0 for no limit."""

    shapes: tuple[Size, ...]
    side: int = 336
    grid: int = 24
    most: int = 0


def anyres(height: int, width: int, spec: AnyresInputs) -> TokenPlan:
    """The whole picture squashed to a tile, then the picture in tiles, padding taken off.

    The shape is the one that keeps most of the picture's pixels and then wastes least; the rounding
    is the published one.
    """
    _there(height, width)
    shape = best_shape(height, width, spec.shapes)
    scaled = fitted(height, width, shape)
    pad = (shape[0] - scaled[0]) // 2, (shape[1] - scaled[1]) // 2
    canvas = Canvas(resizes=(scaled,), size=shape, left=pad[1], top=pad[0])
    down, across = shape[0] // spec.side, shape[1] // spec.side
    top, left, inside = _unpadded((height, width), (spec.grid * down, spec.grid * across))
    size = _thinned(inside, spec)
    mosaic = Mosaic(first=1, down=down, across=across, top=top, left=left, inside=inside, size=size)
    base = Canvas.plain((spec.side, spec.side))
    tiles = (Tile(1, (0, 0, spec.side, spec.side)), *grid_of(0, down, across, spec.side))
    segments: tuple[Segment, ...] = (Whole(0, spec.grid, spec.grid), mosaic)
    return TokenPlan((height, width), (canvas, base), tiles, segments)


def best_shape(height: int, width: int, shapes: tuple[Size, ...]) -> Size:
    """Of canvases, height and width: most pixels of the picture, then least waste."""

    def worth(shape: Size) -> tuple[int, int]:
        scale = min(shape[1] / width, shape[0] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - shape[0] * shape[1]

    return max(shapes, key=worth)


def fitted(height: int, width: int, shape: Size) -> Size:
    """The picture's size when it just fits a canvas, as published: one side full, the other rounded
    up."""
    across, down = shape[1] / width, shape[0] / height
    if across < down:
        return min(ceil(height * across), shape[0]), shape[1]
    return shape[0], min(ceil(width * down), shape[1])


def _unpadded(size: Size, grid: Size) -> tuple[int, int, Size]:
    """Of a grid of rows: how many are padding above and at the left, and what is inside."""
    height, width = size
    rows, columns = grid
    if width / height > columns / rows:
        real = int(round(height * (columns / width), 7))
        top = (rows - real) // 2
        return top, 0, (rows - 2 * top, columns)
    real = int(round(width * (rows / height), 7))
    left = (columns - real) // 2
    return 0, left, (rows, columns - 2 * left)


def _thinned(inside: Size, spec: AnyresInputs) -> Size:
    if not spec.most:
        return inside
    ratio = sqrt(inside[0] * inside[1] / (spec.most * spec.grid**2))
    return (int(inside[0] // ratio), int(inside[1] // ratio)) if ratio > 1.1 else inside


def fewer_shapes(spec: AnyresInputs, rows: int) -> AnyresInputs:
    """Only shapes that take up to `rows` rows. Raises InvalidValue where there is none."""

    def least(shape: Size) -> int:
        tiles = shape[0] * shape[1] // spec.side**2
        return spec.grid**2 * (1 + min(tiles, spec.most or tiles))

    shapes = tuple(shape for shape in spec.shapes if least(shape) <= rows)
    if not shapes:
        raise InvalidValue(
            f"max_visual_tokens={rows} is too few for a picture.",
            do=f"The least is {min(map(least, spec.shapes))}.",
        )
    return replace(spec, shapes=shapes)


def _there(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise InvalidValue(f"A picture of {width} x {height} pixels shows nothing.")
