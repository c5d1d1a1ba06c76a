"""The longer side scaled to a fixed length, then tiles, each named by its row and column, and the
whole picture after them.

Idefics3: Laurençon et al., 2024, "Building and better understanding vision-language models".
SmolVLM: Marafioti et al., 2025.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from diptych.foundation.errors import InvalidValue
from diptych.imaging.placing import Size, real, squeezed
from diptych.imaging.plan import Rows, Segment, Text, Tile, TokenPlan, tiled, too_many


@dataclass(frozen=True, kw_only=True)
class SplitSpec:
    """The longer side becomes `longest` pixels, small pictures too; both are then stretched to
    multiples of `tile`. Each tile is `side` x `side` embeddings. With `split` off the whole
    picture is one tile. `fence` and `whole`: the words around tiles and before the last."""

    tile: int
    side: int
    longest: int
    split: bool = True
    fence: str = "<fake_token_around_image>"
    whole: str = "<global-img>"
    max_visual_tokens: int = 1280

    def __post_init__(self):
        if self.longest < self.tile or self.longest % self.tile or self.longest > _LONGEST:
            raise InvalidValue(
                f"longest = {self.longest} is no multiple of tiles of {self.tile} up to {_LONGEST}."
            )


_LONGEST = 4096  # the published processors never go beyond
SMOLVLM = SplitSpec(tile=512, side=8, longest=2048)
IDEFICS_3 = SplitSpec(tile=364, side=13, longest=4 * 364)


def split_grid(height: int, width: int, spec: SplitSpec) -> TokenPlan:
    """Above `max_visual_tokens` a shorter `longest`, tile by tile, in the end one tile. Raises
    InvalidValue where that does not fit either."""
    picture, each = real((width, height)), spec.side**2
    if not spec.split:
        if each > spec.max_visual_tokens:
            raise too_many(picture, each, spec.max_visual_tokens)
        return _plan(picture, spec.longest, spec, lowered=False)
    for longest in range(spec.longest, 0, -spec.tile):
        plan = _plan(picture, longest, spec, lowered=longest < spec.longest)
        if plan.count() <= spec.max_visual_tokens:
            return plan
    raise too_many(picture, each, spec.max_visual_tokens)


def _plan(picture: Size, longest: int, spec: SplitSpec, *, lowered: bool) -> TokenPlan:
    scaled, tile = _longer_side(picture, longest), (spec.tile, spec.tile)
    canvas = _stretched(scaled, spec.tile) if spec.split else tile
    cut = tiled(canvas, tile)
    if len(cut) == 1:
        segments = _last(0, spec)
    else:
        columns = canvas[0] // spec.tile
        segments = (*_named(len(cut), columns, spec), Text("\n"), *_last(len(cut), spec))
        cut = (*cut, Tile((0, 0, *canvas), "resized"))
    return TokenPlan(
        placing=squeezed(picture, scaled, canvas),
        tile=tile,
        tiles=cut,
        segments=segments,
        lowered=lowered,
    )


def _named(number: int, columns: int, spec: SplitSpec) -> list[Segment]:
    """The tiles in rows, each row ended by a line."""
    parts: list[Segment] = []
    for i in range(number):
        row, column = divmod(i, columns)
        name = f"{spec.fence}<row_{row + 1}_col_{column + 1}>"
        parts += [Text(name), Rows(i, spec.side, spec.side)]
        if column + 1 == columns:
            parts.append(Text("\n"))
    return parts


def _last(tile: int, spec: SplitSpec) -> tuple[Segment, ...]:
    rows = Rows(tile, spec.side, spec.side)
    return Text(spec.fence + spec.whole), rows, Text(spec.fence)


def _longer_side(picture: Size, longest: int) -> Size:
    """The longer side at `longest`, the other rounded down and then made even."""
    width, height = picture
    if width >= height:
        return longest, _even(int(longest / (width / height)))
    return _even(int(longest * (width / height))), longest


def _even(side: int) -> int:
    return max(side + side % 2, 1)


def _stretched(scaled: Size, tile: int) -> Size:
    """Both sides up to the next multiple."""
    return ceil(scaled[0] / tile) * tile, ceil(scaled[1] / tile) * tile
