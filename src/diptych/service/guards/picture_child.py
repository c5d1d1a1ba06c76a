"""The one process that decodes strangers' pictures: little memory, little time, no files, and
no network where the system lets it give that up. Run as `python -m
diptych.service.guards.picture_child MEGABYTES SECONDS`.

It says that it is ready by one byte. Then it reads a length (8 bytes, big-endian) and a file, and
answers with a length and a JSON object, and with the pixels if the object has `width` and
`height`, and with their opacity if it says `alpha`; so on until its input ends. A hostile file may
take this process over as far as the system lets it: it is a wall, not a sandbox.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import struct
import sys
from io import BytesIO
from typing import Any, BinaryIO

from PIL import Image

from diptych.imaging.pictures import FORMATS, ORIENTATION, upright_alpha, upright_rgb
from diptych.service.guards.json_gate import is_text

MOST_PIXELS = 33_000_000
_LONGEST_RECIPE = 64 << 10  # characters
_NEW_USER, _NEW_NETWORK, _NO_NEW_PRIVILEGES = 0x10000000, 0x40000000, 38


def main(arguments: list[str]) -> int:
    megabytes, seconds = map(int, arguments)
    source, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    _warm()
    _alone(megabytes)
    answers.write(b"R")  # ready
    answers.flush()
    while head := source.read(8):
        content = source.read(*struct.unpack(">Q", head))
        _another(seconds)
        said, pixels = _answered(content)
        _send(answers, said, pixels)
        if "error" in said:
            return 1  # a library that met something odd is not asked again
    return 0


def _answered(content: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        return _decoded(content)
    except MemoryError:
        return {"error": "memory"}, b""
    except Image.DecompressionBombError:
        return {"error": "pixels"}, b""
    except Exception:  # whatever else a broken file brings up; its text may hold parts of the file
        return {"error": "broken"}, b""


def _decoded(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The first frame, as `upright_rgb` defines it, and what is said of it."""
    with Image.open(BytesIO(content), formats=FORMATS) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            return {"error": "pixels"}, b""
        if picture.format == "PNG":
            picture.verify()  # checksums: `load` passes over them
    with Image.open(BytesIO(content), formats=FORMATS) as picture:
        animated = bool(getattr(picture, "is_animated", False))  # looks at the second frame
        picture.load()
        if picture.width * picture.height > MOST_PIXELS:
            return {"error": "pixels"}, b""
        recipe = picture.info.get("diptych") if picture.format == "PNG" else None
        rgb, alpha = upright_rgb(picture), upright_alpha(picture)
    said: dict[str, Any] = {"width": rgb.width, "height": rgb.height}
    said["warnings"] = ["Only the first frame of the animation is used."] if animated else []
    if isinstance(recipe, str) and len(recipe) <= _LONGEST_RECIPE and is_text(recipe):
        said["recipe"] = recipe
    if alpha is None:
        return said, rgb.tobytes()
    return {**said, "alpha": True}, rgb.tobytes() + alpha.tobytes()


def _warm() -> None:
    """Load every module that a picture may need, while files may still be opened."""
    Image.init()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for kind in FORMATS:
        for mode in ("RGB", "RGBA", "CMYK", "P", "L", "I;16"):
            frames = [Image.new(mode, (8, 8), color) for color in (0, 1)]
            content = BytesIO()
            try:
                moving = {"save_all": True, "append_images": frames[1:]}
                frames[0].save(
                    content, format=kind, exif=exif, **({} if kind == "JPEG" else moving)
                )
            except (OSError, ValueError):
                continue  # a mode that this kind has not
            _decoded(content.getvalue())


def _alone(megabytes: int) -> None:
    """Take from this process what it does not need."""
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    library = ctypes.CDLL(None)
    if hasattr(library, "unshare"):
        library.unshare(_NEW_USER | _NEW_NETWORK)
        library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))  # those that are open stay so


def _another(seconds: int) -> None:
    """So many more seconds of computing; the system ends the process that needs more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, hard))


def _send(answers: BinaryIO, said: dict[str, Any], pixels: bytes) -> None:
    head = json.dumps(said).encode()
    answers.write(struct.pack(">Q", len(head)) + head)
    answers.write(pixels)
    answers.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
