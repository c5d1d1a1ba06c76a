"""How a picture was made, written inside it.

Two PNG texts: `parameters`, in the form that AUTOMATIC1111 began and the community's tools read,
and `diptych`, JSON with everything. No time, host or job: the same request is the same bytes.
A picture from 256 pixels up also carries an invisible mark with the first bits of that text's
SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diptych.foundation.config import from_json
from diptych.foundation.errors import NotFound, Unreadable
from diptych.foundation.files import write_whole
from diptych.imaging.watermark import BITS, marked

_KEY = "diptych"


@dataclass(frozen=True, kw_only=True)
class PictureRecipe:
    """All that decides the pixels. `shift` is a flow's, None for other paths; `model_hash`: the
    first 10 digits of the weights' SHA-256; `init` and `mask` those of the pixels of a picture
    that it began from, `strength` how much of it was painted anew. `controls` and `image_prompts`
    name what was followed or read, with strength and pixels; `refiner` the model of the last
    steps and when it took over; `enlarge` and `tiling` say how a large picture was made; `loras`
    its adapters with strength and file, `words` those in its prompts that were learnt from
    pictures. `dtype`: what the networks computed in, not said by older pictures;
    `approximations`: by which the picture is another than the exact one; `hidiffusion` and
    `consistent`: how it looked at itself, and with which prompt's picture it is alike."""

    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    guidance: float
    shift: float | None
    width: int
    height: int
    model: str
    model_hash: str
    version: str
    solver: str = "euler"
    spacing: str = "trailing"
    noise: str = "torch"
    strength: float = 1.0
    init: str = ""
    mask: str = ""
    image_guidance: float | None = None
    true_guidance: float | None = None
    clip_skip: int = 0
    controls: tuple[str, ...] = ()
    image_prompts: tuple[str, ...] = ()
    refiner: str = ""
    enlarge: str = ""
    tiling: str = ""
    loras: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    dtype: str = ""
    approximations: tuple[str, ...] = ()
    hidiffusion: str = ""
    consistent: str = ""

    def parameters(self) -> str:
        """The community's one text for it."""
        lines = [self.prompt]
        if self.negative_prompt:
            lines.append(f"Negative prompt: {self.negative_prompt}")
        lines.append(
            f"Steps: {self.steps}, Sampler: {self.solver}, Schedule type: {self.spacing}, "
            f"CFG scale: {self.guidance:g}, Seed: {self.seed}, Size: {self.width}x{self.height}, "
            f"Model hash: {self.model_hash}, Model: {self.model}, Version: diptych {self.version}"
        )
        if self.approximations:
            lines[-1] += f", Approximations: {'; '.join(self.approximations)}"
        return "\n".join(lines)


def png_bytes(picture: Image.Image, recipe: PictureRecipe, *, marks: bool = True) -> bytes:
    """The PNG file: the same pixels and recipe give the same bytes. `marks`: with the invisible
    mark, where the picture is large enough for it."""
    written = json.dumps(asdict(recipe), sort_keys=True)
    text = PngInfo()
    text.add_text("parameters", recipe.parameters())
    text.add_text(_KEY, written)
    content = BytesIO()
    kept = marked(picture, short_hash(written)) if marks else picture
    kept.save(content, format="png", pnginfo=text, compress_level=6)
    return content.getvalue()


def short_hash(written: str) -> int:
    """The first 24 bits of the SHA-256 of a recipe's JSON: what the mark in the pixels holds."""
    return int.from_bytes(hashlib.sha256(written.encode()).digest()[: BITS // 8])


def write_picture(
    path: str | os.PathLike[str],
    picture: Image.Image,
    recipe: PictureRecipe,
    *,
    marks: bool = True,
) -> Path:
    """Write the PNG, whole or not at all. Raises NotWritten."""
    return write_whole(path, png_bytes(picture, recipe, marks=marks))


def recipe_of(path: str | os.PathLike[str]) -> PictureRecipe:
    """The recipe inside a picture of ours. Raises NotFound or Unreadable."""
    if not Path(path).is_file():
        raise NotFound(f"There is no picture {str(path)!r}.")
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            picture.load()
            found: Any = picture.info.get(_KEY)
    except (OSError, SyntaxError, ValueError) as error:
        raise Unreadable(f"{str(path)!r} is no PNG that can be read.") from error
    if not found:
        raise Unreadable(
            f"{str(path)!r} carries no recipe.", do="Only pictures made here can be repeated."
        )
    try:
        return from_json(PictureRecipe, json.loads(found), at="recipe")
    except ValueError as error:
        raise Unreadable(f"The recipe in {str(path)!r} is broken.") from error
