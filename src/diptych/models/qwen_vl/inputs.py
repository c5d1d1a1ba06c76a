"""A picture at its own resolution, and the positions of its tokens in three axes.

Qwen2-VL: Wang et al., 2024, section 2.1 (dynamic resolution, M-RoPE). Qwen2.5-VL: Bai et al.,
2025, section 2.1.1 (windows).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, sqrt

import torch
from torch import Tensor

from diptych.foundation.errors import InvalidValue
from diptych.imaging.placing import Size, real, squeezed
from diptych.imaging.plan import Rows, TokenPlan, tiled, too_many


@dataclass(frozen=True, kw_only=True)
class NativeSpec:
    """Both sides become multiples of `patch` x `merge` pixels, their product lies between
    `min_pixels` and `max_pixels`. `copies`: a still picture is shown as so many frames."""

    patch: int = 14
    merge: int = 2
    copies: int = 2
    min_pixels: int = 56 * 56
    max_pixels: int = 28 * 28 * 1280
    max_visual_tokens: int = 1280

    @property
    def factor(self) -> int:
        """Pixels along the side of one visual token."""
        return self.patch * self.merge


QWEN2_VL = NativeSpec()
_NARROWEST = 200


def native(height: int, width: int, spec: NativeSpec) -> TokenPlan:
    """One tile of the picture's own shape. Above `max_visual_tokens` a smaller one. Raises
    InvalidValue where one side is over 200 times the other."""
    picture, cell = real((width, height)), spec.factor
    if max(picture) / min(picture) > _NARROWEST:
        raise InvalidValue(
            f"A picture of {width} x {height} pixels is too narrow: one side is more than "
            f"{_NARROWEST} times the other.",
            do=f"Cut it, or add margins, up to {-(-max(picture) // _NARROWEST)} pixels.",
        )
    if spec.max_visual_tokens < 1:
        raise too_many(picture, 1, spec.max_visual_tokens)
    canvas = resized(picture, cell, spec.min_pixels, spec.max_pixels)
    room = spec.max_visual_tokens * cell * cell
    lowered = canvas[0] * canvas[1] > room
    if lowered:
        canvas = resized(picture, cell, min(spec.min_pixels, room), room)
        # At the limits the shorter side is held at one token: the longer one gives way.
        other = max(min(canvas) // cell, 1)
        most = spec.max_visual_tokens // other * cell
        canvas = min(canvas[0], most), min(canvas[1], most)
    segments = (Rows(0, canvas[1] // cell, canvas[0] // cell),)
    return TokenPlan(
        placing=squeezed(picture, canvas),
        tile=canvas,
        tiles=tiled(canvas, canvas),
        segments=segments,
        lowered=lowered,
    )


def resized(picture: Size, cell: int, least: int, most: int) -> Size:
    """Sides to the nearest multiples of `cell` (halves to even), or below `most` pixels, or above
    `least`, with the picture's shape."""
    width, height = picture
    canvas = round(width / cell) * cell, round(height / cell) * cell
    if canvas[0] * canvas[1] > most:
        shrink = sqrt(height * width / most)
        canvas = floor(width / shrink / cell) * cell, floor(height / shrink / cell) * cell
        return max(cell, canvas[0]), max(cell, canvas[1])
    if canvas[0] * canvas[1] < least:
        grow = sqrt(least / (height * width))
        return ceil(width * grow / cell) * cell, ceil(height * grow / cell) * cell
    return canvas


def positions(
    tokens: Sequence[int], plans: Sequence[TokenPlan], placeholder: int
) -> tuple[Tensor, int]:
    """A row of N token ids, in it the plans' placeholders -> [3, N] int64 (time, height, width) and
    what is added to the length to have the position of the next token.

    A word at n stands at n in all three. A picture that begins at n stands at n in time, at n +
    row and n + column in the others; what follows it at n + the larger side. Raises InvalidValue
    where placeholders and plans do not agree.
    """
    found, at, next_one, begun = torch.empty(3, len(tokens), dtype=torch.int64), 0, 0, 0
    while at < len(tokens):
        if tokens[at] != placeholder:
            found[:, at] = next_one
            at, next_one = at + 1, next_one + 1
            continue
        if begun == len(plans):
            raise InvalidValue(f"Placeholders at {at} belong to none of {begun} pictures.")
        plan, size = plans[begun], plans[begun].count()
        seen = sum(token == placeholder for token in tokens[at : at + size])
        plan.check(seen, index=begun, what="placeholders")
        rows, columns = merged_grid(plan)
        square = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).T
        found[0, at : at + size] = next_one
        found[1:, at : at + size] = next_one + square
        at, next_one, begun = at + size, next_one + max(rows, columns), begun + 1
    if begun < len(plans):
        plans[begun].check(0, index=begun, what="placeholders")
    return found, next_one - len(tokens)


def merged_grid(plan: TokenPlan) -> tuple[int, int]:
    """Rows and columns of visual tokens."""
    (part,) = plan.segments
    assert isinstance(part, Rows)
    return part.rows, part.columns


def windows(
    grids: Sequence[tuple[int, int]], spec: NativeSpec, side: int = 112
) -> tuple[Tensor, Tensor]:
    """Grids of visual tokens (rows, columns) -> the order [N] int64 in which windows of `side`
    pixels take them, picture by picture, and the borders [windows + 1] int32 between windows,
    counted in patches. Its inverse (`argsort`) is due after the merger."""
    across = side // spec.factor
    orders: list[Tensor] = []
    sizes = [0]
    before = 0
    for rows, columns in grids:
        cells = torch.arange(rows * columns).view(rows, columns) + before
        parts = [part for band in cells.split(across) for part in band.split(across, dim=1)]
        orders += [part.reshape(-1) for part in parts]
        sizes += [part.numel() * spec.merge**2 for part in parts]
        before += rows * columns
    return torch.cat(orders), torch.tensor(sizes).cumsum(0).to(torch.int32)
