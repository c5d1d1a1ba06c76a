"""Say where pictures come from, as far as they tell.

diptych verify a.png
diptych verify *.png --json

Ends with 0 when each carries a mark of ours, 1 when one carries none, 2 when one cannot be read.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diptych.imaging.provenance import Provenance

NONE_FOUND, NOT_READ = 1, 2

_RECIPES = {
    "diptych": "written by Diptych",
    "automatic1111": "written in the form of AUTOMATIC1111",
    "comfyui": "written by ComfyUI",
    "none": "none",
}
_WATERMARKS = {
    "none": "not found (which proves nothing)",
    "too-small": "not looked for: pictures under 256 pixels carry none",
}
_SAME = {
    True: "; it belongs to this recipe",
    False: "; it belongs to another recipe",
    None: "",
}
_CREDENTIALS = {
    "valid": "valid, signed by {signer}",
    "local": "intact, signed by {signer}, whom no list vouches for",
    "altered": "altered: picture or statement were changed after signing",
    "broken": "broken: they cannot be read",
    "none": "none",
    "unread": "not looked for: pip install 'diptych[provenance]'",
}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", metavar="FILE", help="PNG, JPEG, WebP or GIF")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")


def run(args: Namespace) -> int:
    from diptych.foundation.errors import DiptychError
    from diptych.imaging.provenance import provenance_of_file

    codes, told = [0], list[dict[str, Any]]()
    for path in args.pictures:
        try:
            found = provenance_of_file(path)
        except DiptychError as error:
            codes.append(NOT_READ)
            told.append({"file": path, "error": error.what})
            lines = [f"  {error.what}"]
        else:
            codes.append(0 if found.ours else NONE_FOUND)
            told.append({"file": path, **found.told()})
            lines = said(found)
        if not args.json:
            print("\n".join([path, *lines]))
    if args.json:
        print(json.dumps(told, indent=2))
    return max(codes)


def said(found: Provenance) -> list[str]:
    """Three lines for people."""
    watermark = _WATERMARKS.get(found.watermark) or _found(found)
    credentials = _CREDENTIALS[found.credentials].format(signer=found.signer or "nobody named")
    if found.machine and found.credentials in ("valid", "local"):
        credentials += f"; painted by a machine ({found.generator})"
    return [
        f"  recipe       {_RECIPES[found.recipe]}",
        f"  watermark    {watermark}",
        f"  credentials  {credentials}",
    ]


def _found(found: Provenance) -> str:
    assert found.chance is not None
    return f"found, by chance in 1 of {1 / max(found.chance, 1e-99):.0e}{_SAME[found.same_recipe]}"
