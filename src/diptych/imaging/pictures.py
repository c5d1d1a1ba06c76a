"""Pictures from files: only what can be read whole, upright, without transparency."""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from diptych.foundation.errors import NotFound, Unreadable

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MOST_PIXELS = 50_000_000
WIDE_GRAY = ("I;16", "I;16B", "I;16L", "I")
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright

Before = Callable[[Image.Image], None]


def read_picture(path: str | os.PathLike[str], before: Before | None = None) -> Image.Image:
    """The first frame as RGB, turned as its EXIF says, transparency over white. `before` gets it
    when its size is known and nothing is decoded.

    Raises NotFound, or Unreadable for what is no PNG, JPEG, WebP or GIF, is cut off, or has more
    than 50 million pixels.
    """
    name = str(path)
    if not Path(path).exists():
        raise NotFound(f"There is no picture {name!r}.")
    try:
        return upright_rgb(_loaded(path, before))
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise Unreadable(
            f"{name!r} is no picture that can be read.", do="PNG, JPEG, WebP and GIF can be."
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise Unreadable(f"{name!r} cannot be read: {error}.") from error


def open_picture(content: bytes, before: Before | None = None) -> Image.Image:
    """The first frame of a file's bytes as it is, transparency kept; `before` as above.

    Raises Unreadable above 50 million pixels, and whatever Pillow raises for a damaged file.
    """
    return _loaded(BytesIO(content), before)


def _loaded(source: str | os.PathLike[str] | BytesIO, before: Before | None) -> Image.Image:
    with Image.open(source, formats=FORMATS) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            raise Unreadable(
                f"{'The picture' if isinstance(source, BytesIO) else repr(str(source))} has "
                f"{picture.width} x {picture.height} pixels.",
                do="Make it smaller; up to 50 million are read.",
            )
        if before:
            before(picture)
        picture.load()
        return picture


def upright_rgb(picture: Image.Image) -> Image.Image:
    """Turned as its EXIF says, transparency over white, RGB: the picture itself where it is so."""
    plain = picture.mode == "RGB" and "transparency" not in picture.info
    if plain and picture.getexif().get(ORIENTATION, 1) == 1:
        return picture  # 12 million pixels are not copied for nothing
    turned = ImageOps.exif_transpose(picture)
    if turned.mode in WIDE_GRAY:
        # By its upper byte, as 16-bit color is read; Pillow alone would make most of it white.
        turned = turned.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if "A" in turned.getbands() or "transparency" in turned.info:
        layer = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return turned.convert("RGB")


def upright_alpha(picture: Image.Image) -> Image.Image | None:
    """Opacity, turned as its EXIF says: "L", 255 where nothing shines through. None of a picture
    without transparency."""
    turned = ImageOps.exif_transpose(picture)
    if "A" not in turned.getbands() and "transparency" not in turned.info:
        return None
    return turned.convert("RGBA").getchannel("A")


def to_square(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    """The whole picture squeezed to [size, size, 3] uint8 by Pillow's bicubic filter."""
    whole = upright_rgb(picture)
    if whole.size != (size, size):
        whole = whole.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(whole)
