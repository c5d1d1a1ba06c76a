"""How Idefics 3 and SmolVLM see a picture: scaled up to whole tiles, each told by its place, and
the whole picture behind them (Laurençon et al., 2024, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from diptych.foundation.errors import InvalidValue
from diptych.imaging.plan import Canvas, Segment, Tile, TokenPlan, Whole, Words, grid_of


@dataclass(frozen=True, kw_only=True)
class SplitInputs:
    """Tiles of `side` pixels and `grid` x `grid` rows. The longer side is scaled to `longest`, then
    both up to whole tiles; with `split` off the picture is squashed to one tile."""

    side: int = 512
    grid: int = 8
    longest: int = 2048
    split: bool = True


_FAKE, _GLOBAL = "<fake_token_around_image>", "<global-img>"


def split_grid(height: int, width: int, spec: SplitInputs) -> TokenPlan:
    """Tiles row by row, then the whole picture; just that one where it is enough."""
    side, grid = spec.side, spec.grid
    scaled = _longest(height, width, spec.longest)
    only = Whole(0, grid, grid)
    if not spec.split:
        canvas = Canvas.plain(scaled, (side, side))
        segments = (Words(_FAKE + _GLOBAL), only, Words(_FAKE))
        return TokenPlan((height, width), (canvas,), (Tile(0, (0, 0, side, side)),), segments)
    cut = _whole_tiles(*scaled, side)
    down, across = cut[0] // side, cut[1] // side
    canvas = Canvas.plain(scaled, cut)
    if down == across == 1:
        segments = (Words(_FAKE + _GLOBAL), only, Words(_FAKE))
        return TokenPlan((height, width), (canvas,), (Tile(0, (0, 0, side, side)),), segments)
    whole = Canvas.plain(scaled, cut, (side, side))
    tiles = (*grid_of(0, down, across, side), Tile(1, (0, 0, side, side)))
    parts = list[Segment]()
    for number in range(down * across):
        row, column = divmod(number, across)
        parts += [
            Words(f"{_FAKE}<row_{row + 1}_col_{column + 1}>"),
            Whole(number, grid, grid),
            Words("\n" if column + 1 == across else ""),
        ]
    parts += [Words(f"\n{_FAKE}{_GLOBAL}"), Whole(down * across, grid, grid), Words(_FAKE)]
    return TokenPlan((height, width), (canvas, whole), tiles, tuple(parts))


def smaller(height: int, width: int, spec: SplitInputs, rows: int) -> SplitInputs:
    """The largest scale at which the picture takes up to `rows` rows. Raises InvalidValue where
    one tile is too many."""
    while spec.split and split_grid(height, width, spec).count > rows:
        less = spec.longest - spec.side
        spec = replace(spec, longest=less) if less > 0 else replace(spec, split=False)
    if split_grid(height, width, spec).count > rows:
        raise InvalidValue(
            f"max_visual_tokens={rows} is too few for a picture.",
            do=f"The least is {spec.grid**2}.",
        )
    return spec


def _longest(height: int, width: int, longest: int) -> tuple[int, int]:
    """The published rounding: down, then to an even number."""
    ratio = width / height
    if width >= height:
        tall = int(longest / ratio)
        return max(tall + tall % 2, 1), longest
    wide = int(longest * ratio)
    return longest, max(wide + wide % 2, 1)


def _whole_tiles(height: int, width: int, side: int) -> tuple[int, int]:
    ratio = width / height
    if width >= height:
        wide = ceil(width / side) * side
        return ceil(int(wide / ratio) / side) * side, wide
    tall = ceil(height / side) * side
    return tall, ceil(int(tall * ratio) / side) * side
