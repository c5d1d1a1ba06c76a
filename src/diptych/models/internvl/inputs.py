"""A grid of tiles whose shape is nearest to the picture's, and a thumbnail after them.

InternVL 1.5: Chen et al., 2024, "How far are we to GPT-4V?", section 3.3 (dynamic resolution).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from diptych.foundation.errors import InvalidValue
from diptych.imaging.placing import Size, real, squeezed
from diptych.imaging.plan import Rows, Tile, TokenPlan, tiled, too_many


@dataclass(frozen=True, kw_only=True)
class TilesSpec:
    """Between `fewest` and `most` tiles of `tile` pixels, the thumbnail not counted, each of
    `side` x `side` embeddings."""

    tile: int
    side: int
    most: int
    fewest: int = 1
    max_visual_tokens: int = 1280

    def __post_init__(self):
        if not 1 <= self.fewest <= self.most:
            raise InvalidValue(f"Between {self.fewest} and {self.most} there are no numbers.")


INTERNVL_3 = TilesSpec(tile=448, side=16, most=12)


def tiles(height: int, width: int, spec: TilesSpec) -> TokenPlan:
    """Above `max_visual_tokens` fewer tiles. Raises InvalidValue where `fewest` do not fit."""
    picture, each = real((width, height)), spec.side**2
    grid = _grid(picture, spec.tile, spec.fewest, spec.most)
    lowered = _shown(grid) * each > spec.max_visual_tokens
    if lowered:
        room = spec.max_visual_tokens // each
        most = min(spec.most, room - 1 if room > 1 else room)
        if most < spec.fewest:
            needs = spec.fewest + (spec.fewest > 1)
            raise too_many(picture, needs * each, spec.max_visual_tokens)
        grid = _grid(picture, spec.tile, spec.fewest, most)
    canvas, tile = (spec.tile * grid[0], spec.tile * grid[1]), (spec.tile, spec.tile)
    thumbnail = (Tile((0, 0, *canvas), "picture"),) if _shown(grid) > 1 else ()
    seen = (*tiled(canvas, tile), *thumbnail)
    return TokenPlan(
        placing=squeezed(picture, canvas),
        tile=tile,
        tiles=seen,
        segments=tuple(Rows(i, spec.side, spec.side) for i in range(len(seen))),
        lowered=lowered,
    )


def _shown(grid: Size) -> int:
    """Tiles and thumbnail."""
    number = grid[0] * grid[1]
    return number + (number > 1)


def _grid(picture: Size, tile: int, fewest: int, most: int) -> Size:
    """Columns and rows nearest to the picture's shape; of equals the larger, as long as the
    picture has more than half of its pixels."""
    width, height = picture
    best, least = (1, 1), float("inf")
    for columns, rows in _grids(fewest, most):
        off = abs(width / height - columns / rows)
        large = width * height > 0.5 * tile * tile * columns * rows
        if off < least or (off == least and large):
            best, least = (columns, rows), off
    return best


@cache
def _grids(fewest: int, most: int) -> tuple[Size, ...]:
    """All columns and rows with so many tiles, by their number, then by columns."""
    sides = range(1, most + 1)
    pairs = [(x, y) for x in sides for y in sides if fewest <= x * y <= most]
    return tuple(sorted(pairs, key=lambda pair: pair[0] * pair[1]))
