"""What a picture says of where it comes from: its text, its invisible mark, its credentials.

All three can be lost, and none proves anything by being absent.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from diptych.foundation.errors import NotFound, Unreadable
from diptych.imaging import credentials
from diptych.imaging.pictures import FORMATS, MOST_PIXELS, open_picture, upright_rgb
from diptych.imaging.recipe import short_hash
from diptych.imaging.watermark import find_mark, large_enough

# The text of a PNG -> whose recipe it is. The first that is there counts.
_RECIPES = {
    "diptych": "diptych",
    "parameters": "automatic1111",
    "workflow": "comfyui",
    "prompt": "comfyui",
}
_EXIF, _USER_COMMENT, _UNICODE = 0x8769, 0x9286, b"UNICODE\0"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """`recipe`: diptych, automatic1111, comfyui or none. `watermark`: found, none, or too-small;
    `strength` and `chance` as `Mark` has them; `same_recipe`: whether the mark belongs to the text
    beside it, None where it cannot be told. `credentials`: valid, local, altered, broken, none, or
    unread without the library for it; `signer`, `generator` and `machine` are what they say."""

    recipe: str
    watermark: str
    strength: float | None = None
    chance: float | None = None
    same_recipe: bool | None = None
    credentials: str
    signer: str = ""
    generator: str = ""
    machine: bool = False

    @property
    def ours(self) -> bool:
        """Whether our mark is in the pixels, or our text or intact statement beside them."""
        signed = self.credentials in ("valid", "local") and self.generator.startswith("Diptych ")
        return self.watermark == "found" or self.recipe == "diptych" or signed

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "ours": self.ours}


def provenance_of_file(path: str | os.PathLike[str]) -> Provenance:
    """Raises NotFound, or Unreadable for what is no picture that is read."""
    if not Path(path).is_file():
        raise NotFound(f"There is no picture {str(path)!r}.")
    try:
        content = Path(path).read_bytes()
        picture = upright_rgb(open_picture(content))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Unreadable(
            f"{str(path)!r} is no picture that can be read.", do="PNG, JPEG, WebP and GIF can be."
        ) from error
    return provenance_of(content, picture)


def provenance_of(content: bytes, picture: Image.Image) -> Provenance:
    """Of a file's bytes and the RGB picture that was decoded from them."""
    media, texts = _texts(content)
    recipe = next((name for key, name in _RECIPES.items() if key in texts), "none")
    return Provenance(recipe=recipe, **_watermark(picture, texts), **_credentials(content, media))


def _texts(content: bytes) -> tuple[str, dict[str, str]]:
    """The media type, and the texts before the pixels; nothing is decoded."""
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                return "", {}
            media = credentials.MEDIA.get(picture.format or "", "")
            texts = {
                str(key): str(value)
                for key, value in picture.info.items()
                if isinstance(value, str)
            }
            if said := _comment(picture):
                texts.setdefault("parameters", said)
            return media, texts
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "", {}


def _comment(picture: Image.Image) -> str:
    """The user's comment of EXIF, where AUTOMATIC1111 writes what no text of a PNG can hold."""
    said = picture.getexif().get_ifd(_EXIF).get(_USER_COMMENT, b"")
    if not isinstance(said, bytes) or not said.startswith(_UNICODE):
        return ""
    # The byte order is the file's own or not, as programs differ; a setting tells which it is.
    for order in ("utf-16-be", "utf-16-le"):
        text = said[len(_UNICODE) :].decode(order, "ignore")
        if "Steps: " in text:
            return text
    return ""


def _watermark(picture: Image.Image, texts: dict[str, str]) -> dict[str, Any]:
    if not large_enough(*picture.size):
        return {"watermark": "too-small"}
    found = find_mark(picture)
    if found is None:
        return {"watermark": "none"}
    known = found.payload is not None and "diptych" in texts
    same = short_hash(texts["diptych"]) == found.payload if known else None
    return {
        "watermark": "found", "strength": round(found.strength, 2), "chance": found.chance,
        "same_recipe": same,
    }  # fmt: skip


def _credentials(content: bytes, media: str) -> dict[str, Any]:
    if not credentials.available():
        return {"credentials": "unread"}
    if not media:
        return {"credentials": "none"}
    try:
        found = credentials.credentials_of(content, media)
    except Unreadable:
        return {"credentials": "broken"}
    if found is None:
        return {"credentials": "none"}
    return {
        "credentials": found.state, "signer": found.signer, "generator": found.generator,
        "machine": found.machine,
    }  # fmt: skip
