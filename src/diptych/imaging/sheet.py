"""Contact sheets: pictures in a grid, each with words under it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from diptych.foundation.files import write_whole

_MARGIN = 8
_INK, _GOOD, _BAD, _PAPER = (40, 44, 52), (26, 127, 55), (190, 50, 40), (250, 250, 248)


def sheet(
    pictures: Sequence[NDArray[np.uint8]],
    words: Sequence[str],
    right: Sequence[bool | None] | None = None,
    *,
    columns: int = 8,
    width: int = 128,
) -> Image.Image:
    """Pictures [H, W, 3] with their words, green where `right`, red where wrong."""
    font = ImageFont.load_default(11)
    lines = [textwrap.wrap(text, max(8, int(width / 5.6))) for text in words]
    tall = max((len(wrapped) for wrapped in lines), default=0) * 13 + 4
    rows = -(-len(pictures) // columns)
    cell = (width + _MARGIN, width + tall + _MARGIN)
    page = Image.new("RGB", (columns * cell[0] + _MARGIN, rows * cell[1] + _MARGIN), _PAPER)
    pen = ImageDraw.Draw(page)
    marks = right if right is not None else [None] * len(pictures)
    for number, (pixels, wrapped, mark) in enumerate(zip(pictures, lines, marks, strict=True)):
        left = _MARGIN + number % columns * cell[0]
        top = _MARGIN + number // columns * cell[1]
        picture = Image.fromarray(pixels)
        picture = picture.resize((width, width), Image.Resampling.NEAREST)
        page.paste(picture, (left, top))
        color = _INK if mark is None else _GOOD if mark else _BAD
        pen.rectangle((left - 1, top - 1, left + width, top + width), outline=color)
        pen.multiline_text((left, top + width + 3), "\n".join(wrapped), color, font, spacing=2)
    return page


def write_sheet(
    pictures: Sequence[NDArray[np.uint8]],
    words: Sequence[str],
    right: Sequence[bool | None] | None,
    path: Path,
    **layout: int,
) -> None:
    """`sheet` as a PNG file, whole or not at all. Raises NotWritten."""
    content = BytesIO()
    sheet(pictures, words, right, **layout).save(content, format="png", optimize=True)
    write_whole(path, content.getvalue())
