"""How InternVL sees a picture: tiles in the grid nearest to its shape, and a thumbnail behind them
(Chen et al., 2024, InternVL 1.5, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diptych.foundation.errors import InvalidValue
from diptych.imaging.plan import Canvas, Size, Tile, TokenPlan, Whole, grid_of


@dataclass(frozen=True, kw_only=True)
class TilesInputs:
    """Tiles of `side` pixels and `grid` x `grid` rows, `fewest` up to `most` of them; a `thumbnail`
    where there is more than one."""

    side: int = 448
    grid: int = 16
    fewest: int = 1
    most: int = 12
    thumbnail: bool = True


def tiles(height: int, width: int, spec: TilesInputs) -> TokenPlan:
    """Tiles in reading order, then the thumbnail."""
    down, across = best_grid(height, width, spec)
    side = spec.side
    canvas = Canvas.plain((down * side, across * side))
    cut = grid_of(0, down, across, side)
    canvases = (canvas,)
    if spec.thumbnail and len(cut) > 1:
        canvases = (canvas, Canvas.plain((side, side)))
        cut = (*cut, Tile(1, (0, 0, side, side)))
    segments = tuple(Whole(i, spec.grid, spec.grid) for i in range(len(cut)))
    return TokenPlan((height, width), canvases, cut, segments)


def fewer(spec: TilesInputs, rows: int) -> TilesInputs:
    """So few tiles that they and the thumbnail take up to `rows` rows. Raises InvalidValue where
    one tile is too many."""
    room = rows // spec.grid**2
    if room < spec.fewest:
        least = spec.fewest * spec.grid**2
        raise InvalidValue(
            f"max_visual_tokens={rows} is too few for a picture.", do=f"The least is {least}."
        )
    most = max(spec.fewest, room - spec.thumbnail) if room > 1 else 1
    return replace(spec, most=min(spec.most, most))


def best_grid(height: int, width: int, spec: TilesInputs) -> Size:
    """Rows and columns whose shape is nearest; of equals the larger, if the picture fills more than
    half of it."""
    ratio, area = width / height, width * height
    best, nearest = (1, 1), float("inf")
    for down, across in _grids(spec):
        off = abs(ratio - across / down)
        large = area > 0.5 * spec.side**2 * down * across
        if off < nearest or (off == nearest and large):
            best, nearest = (down, across), off
    return best


def _grids(spec: TilesInputs) -> list[Size]:
    """By their number of tiles, then by columns."""
    every = [
        (down, across)
        for across in range(1, spec.most + 1)
        for down in range(1, spec.most + 1)
        if spec.fewest <= down * across <= spec.most
    ]
    return sorted(every, key=lambda grid: grid[0] * grid[1])
