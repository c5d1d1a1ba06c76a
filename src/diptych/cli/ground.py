"""Say where things are in a picture, in its own pixels: left, top, right, bottom.

diptych ground a.png "a red circle" --model florence-2/
diptych ground a.png "every star" --model qwen2-vl/ --json -o boxes.png
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.cli.reading import add_reader_arguments, decoding_of, loaded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from diptych.pipelines.grounding import Grounded


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("picture", metavar="FILE", help="PNG, JPEG, WebP or GIF")
    parser.add_argument("words", metavar="WORDS", help="what to find")
    parser.add_argument("-o", "--output", metavar="FILE", help="the picture with its boxes, PNG")
    add_reader_arguments(parser)


def run(args: Namespace) -> int:
    from diptych.foundation.errors import InvalidValue
    from diptych.imaging.pictures import read_picture

    decoding = decoding_of(args, most=512)
    if args.output and Path(args.output).suffix.lower() != ".png":
        raise InvalidValue(f"{args.output!r} is no PNG.", do="Name it with .png.")
    picture = read_picture(args.picture)  # before a model is loaded in vain
    found = loaded(args).ground(picture, args.words, decoding)
    if args.output:
        _write(drawn(picture, found), Path(args.output))
    if args.json:
        rows = [{"label": one.label, "box": one.box, "point": one.point} for one in found]
        print(json.dumps(rows, indent=2))
        return 0
    for one in found:
        numbers = " ".join(f"{number:.1f}" for number in one.box or one.point or ())
        print(f"{numbers}  {one.label}".rstrip())
    return 0


def drawn(picture: Image.Image, found: Sequence[Grounded]) -> Image.Image:
    """The picture with a frame for each box and a ring for each point."""
    from PIL import ImageDraw

    made = picture.copy()
    draw, wide = ImageDraw.Draw(made), max(1, max(picture.size) // 256)
    for one in found:
        if one.box is not None:
            left, top, right, bottom = one.box
            corner = max(left, right - 1), max(top, bottom - 1)  # the last pixel inside
            draw.rectangle((left, top, *corner), outline=(255, 0, 0), width=wide)
        elif one.point is not None:
            (x, y), r = one.point, 3 * wide
            draw.ellipse((x - r, y - r, x + r, y + r), outline=(255, 0, 0), width=wide)
    return made


def _write(picture: Image.Image, path: Path) -> None:
    from diptych.foundation.files import write_whole

    into = BytesIO()
    picture.save(into, "PNG")
    write_whole(path, into.getvalue())
