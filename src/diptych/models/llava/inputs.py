"""One picture of one size (LLaVA 1.5, and all who see a picture once), and any resolution by a
grid of tiles (LLaVA-NeXT; OneVision, which shrinks what is too much).

LLaVA-NeXT: Liu et al., 2024, "LLaVA-NeXT: Improved reasoning, OCR, and world knowledge".
OneVision: Li et al., 2024, section 3.2 ("AnyRes max").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Literal

from diptych.foundation.errors import InvalidValue
from diptych.imaging.placing import Size, centered, middle, real, squared, squeezed
from diptych.imaging.plan import Grid, Newline, Rows, Segment, Tile, TokenPlan, tiled, too_many


@dataclass(frozen=True, kw_only=True)
class FixedSpec:
    """Every picture becomes `width` x `height` pixels and `extra` + `rows` x `columns` embeddings,
    the extra ones first. `fit`: "squeeze" scales the sides apart, "middle" scales the shorter one
    to `shortest` and cuts the middle out, "square" puts margins around it first."""

    width: int
    height: int
    rows: int
    columns: int
    extra: int = 0
    fit: Literal["squeeze", "middle", "square"] = "squeeze"
    shortest: int | None = None
    max_visual_tokens: int = 1280

    def __post_init__(self):
        if (self.fit == "middle") != (self.shortest is not None):
            raise InvalidValue('shortest goes with fit = "middle", and with no other.')
        if self.shortest is not None and self.shortest < max(self.width, self.height):
            raise InvalidValue(
                f"The shorter side, {self.shortest}, is less than what is cut out: "
                f"{self.width} x {self.height}.",
                do=f"Set shortest to {max(self.width, self.height)} or more.",
            )


@dataclass(frozen=True, kw_only=True)
class AnyresSpec:
    """`pinpoints`: widths and heights of the canvases, multiples of the tile, the order decides
    between equals. `side`: the tower's features along a tile. `pooled_above`: OneVision's limit in
    tiles' worth of features, 9."""

    tile: int
    side: int
    pinpoints: tuple[Size, ...]
    pooled_above: int | None = None
    max_visual_tokens: int = 1280

    def __post_init__(self):
        for width, height in self.pinpoints:
            if width < 1 or height < 1 or width % self.tile or height % self.tile:
                raise InvalidValue(f"{width} x {height} is no multiple of tiles of {self.tile}.")


LLAVA_1_5 = FixedSpec(width=336, height=336, rows=24, columns=24, fit="middle", shortest=336)
# The repository of the authors pads instead.
LLAVA_1_5_PADDED = FixedSpec(width=336, height=336, rows=24, columns=24, fit="square")
LLAVA_NEXT = AnyresSpec(
    tile=336, side=24, pinpoints=((672, 336), (336, 672), (672, 672), (336, 1008), (1008, 336))
)
ONEVISION = AnyresSpec(
    tile=384,
    side=27,
    pinpoints=tuple((384 * x, 384 * y) for y in range(1, 7) for x in range(1, 7)),
    pooled_above=9,
)
BLIP_2 = FixedSpec(width=224, height=224, rows=1, columns=32)
FLORENCE_2 = FixedSpec(width=768, height=768, rows=24, columns=24, extra=1)


def fixed(height: int, width: int, spec: FixedSpec) -> TokenPlan:
    """One tile. Raises InvalidValue for a picture without pixels and above `max_visual_tokens`."""
    picture, canvas = real((width, height)), (spec.width, spec.height)
    needs = spec.extra + spec.rows * spec.columns
    if needs > spec.max_visual_tokens:
        raise too_many(picture, needs, spec.max_visual_tokens)
    if spec.shortest is not None:
        placing = middle(picture, spec.shortest, canvas)
    else:
        placing = (squared if spec.fit == "square" else squeezed)(picture, canvas)
    before = (Rows(0, 1, spec.extra),) if spec.extra else ()
    segments = (*before, Rows(0, spec.rows, spec.columns))
    return TokenPlan(placing=placing, tile=canvas, tiles=tiled(canvas, canvas), segments=segments)


def anyres(height: int, width: int, spec: AnyresSpec) -> TokenPlan:
    """The whole picture as a tile first, then the grid, each of its rows ended by a newline.

    Above `max_visual_tokens` the best canvas that fits, else the first tile alone, with one
    newline. Raises InvalidValue where that does not fit either.
    """
    picture = real((width, height))
    wanted = _plan(picture, best_canvas(picture, spec.pinpoints), spec, lowered=False)
    if wanted.count() <= spec.max_visual_tokens:
        return wanted
    plans = {canvas: _plan(picture, canvas, spec, lowered=True) for canvas in spec.pinpoints}
    fitting = [c for c, plan in plans.items() if plan.count() <= spec.max_visual_tokens]
    if fitting:
        return plans[best_canvas(picture, fitting)]
    needs = spec.side**2 + 1
    if needs > spec.max_visual_tokens:
        raise too_many(picture, needs, spec.max_visual_tokens)
    canvas = (spec.tile, spec.tile)
    return TokenPlan(
        placing=squeezed(picture, canvas),
        tile=canvas,
        tiles=tiled(canvas, canvas),
        segments=(Rows(0, spec.side, spec.side), Newline()),
        lowered=True,
    )


def best_canvas(picture: Size, canvases: Iterable[Size]) -> Size:
    """The one that shows most of the picture's own pixels; of equals the smallest, then the
    first."""
    width, height = picture

    def shown(canvas: Size) -> tuple[int, int]:
        scale = min(canvas[0] / width, canvas[1] / height)
        pixels = min(int(width * scale) * int(height * scale), width * height)
        return pixels, pixels - canvas[0] * canvas[1]

    return max(canvases, key=shown)


def _plan(picture: Size, canvas: Size, spec: AnyresSpec, *, lowered: bool) -> TokenPlan:
    tile, whole = (spec.tile, spec.tile), Tile((0, 0, *canvas), "picture")
    grid = _grid(picture, canvas, spec)
    line: tuple[Segment, ...] = (Rows(None, 1, grid.columns), Newline())
    return TokenPlan(
        placing=centered(picture, _inside(picture, canvas), canvas),
        tile=tile,
        tiles=(whole, *tiled(canvas, tile)),
        segments=(Rows(0, spec.side, spec.side), *(line * grid.rows)),
        grid=grid,
        lowered=lowered,
    )


def _inside(picture: Size, canvas: Size) -> Size:
    """The picture as large as the canvas takes it, the shorter side rounded up."""
    x, y = canvas[0] / picture[0], canvas[1] / picture[1]
    if x < y:
        return canvas[0], min(ceil(picture[1] * x), canvas[1])
    return min(ceil(picture[0] * y), canvas[0]), canvas[1]


def _grid(picture: Size, canvas: Size, spec: AnyresSpec) -> Grid:
    """The features of a canvas without those of its margins, which are taken off in pairs. The
    rounding to 7 digits is the published one: without it some sizes lose a row."""
    width, height = (side // spec.tile * spec.side for side in canvas)
    left = top = 0
    if picture[0] / picture[1] > width / height:
        top = (height - int(round(picture[1] * (width / picture[0]), 7))) // 2
    else:
        left = (width - int(round(picture[0] * (height / picture[1]), 7))) // 2
    rows, columns = height - 2 * top, width - 2 * left
    box = (left, top, width - left, height - top)
    if spec.pooled_above is not None:
        ratio = sqrt(rows * columns / (spec.pooled_above * spec.side**2))
        if ratio > 1.1:  # below that, shrinking costs more than it saves
            rows, columns = int(rows // ratio), int(columns // ratio)
    return Grid(height, width, box, rows, columns)
