"""A picture to begin from, as painting has it, and as a recipe knows it again."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from diptych.foundation.errors import InvalidValue
from diptych.pipelines.attachments import mark_of
from diptych.pipelines.painting import Begin


def begin_of(init: Image.Image, mask: Image.Image | None) -> Begin:
    """Where painting begins. Raises InvalidValue for a mask of another size."""
    if mask is not None and mask.size != init.size:
        raise InvalidValue(
            f"The mask is {mask.width} x {mask.height}, the picture {init.width} x {init.height}.",
            do="Make them of one size.",
        )
    where = None if mask is None else np.asarray(mask.convert("L")) >= 128
    return Begin(picture=np.asarray(init.convert("RGB")), mask=where)


def marks_of(begin: Begin) -> dict[str, Any]:
    """By which a recipe knows the pictures again."""
    parts = {"init": begin.picture, "mask": begin.mask}
    return {name: mark_of(part) for name, part in parts.items() if part is not None}
