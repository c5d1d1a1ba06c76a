"""What `generate` is told of large pictures: two passes, windows, room around a picture."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

_LEAST = 8  # cells of a window


def add_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("large pictures")
    group.add_argument(
        "--enlarge",
        type=float,
        metavar="SCALE",
        help="paint, enlarge, and make the last steps again",
    )
    group.add_argument(
        "--enlarge-by", choices=("latent", "pixels"), default="latent", help="what is enlarged"
    )
    group.add_argument(
        "--enlarge-strength", type=float, default=0.6, metavar="SHARE",
        help="share of the steps made at the large size (0.6)",
    )  # fmt: skip
    group.add_argument(
        "--hidiffusion", type=float, metavar="SHARE",
        help="larger than the model was trained on, in one pass: up to 0.4 of the way",
    )  # fmt: skip
    group.add_argument(
        "--extend", metavar="L,T,R,B", help="room around --init to be painted, in pixels"
    )
    group.add_argument(
        "--tile", type=int, metavar="CELLS", help="ask the network window by window, as 64"
    )
    group.add_argument(
        "--tile-decode",
        type=int,
        metavar="CELLS",
        help="decode window by window, for little memory",
    )


def canvases_of(args: Namespace) -> dict[str, Any]:
    """What is said of these, as arguments of a call. Raises InvalidValue."""
    from diptych.foundation.errors import InvalidValue
    from diptych.pipelines.looking import HiDiffusion
    from diptych.pipelines.passes import Enlarge
    from diptych.pipelines.tiles import Tiling

    asked: dict[str, Any] = {}
    if args.enlarge is not None:
        asked["enlarge"] = Enlarge(
            scale=args.enlarge, strength=args.enlarge_strength, by=args.enlarge_by
        )
    if args.hidiffusion is not None:
        asked["hidiffusion"] = HiDiffusion(args.hidiffusion)
    for name, cells in (("tiling", args.tile), ("tiled_decode", args.tile_decode)):
        if cells is not None and cells < _LEAST:
            raise InvalidValue(
                f"Windows of {cells} cells show nothing.", do=f"Choose {_LEAST} or more, as 64."
            )
        if cells is not None:
            asked[name] = Tiling(cells, cells // 4)
    return asked


def extended_by(
    args: Namespace, init: Image | None, mask: Image | None
) -> tuple[Image | None, Image | None]:
    """The picture to begin from with room around it, and the mask of that. Raises InvalidValue."""
    if args.extend is None:
        return init, mask
    from diptych.foundation.errors import InvalidValue
    from diptych.pipelines.canvas import extended

    if init is None or mask is not None:
        raise InvalidValue(
            "--extend makes room around --init, and the mask of it.", do="Give --init, no --mask."
        )
    if not re.fullmatch(r"\d{1,5}(,\d{1,5}){3}", args.extend):
        raise InvalidValue(
            f"--extend {args.extend!r} is no room.", do="Write left,top,right,bottom: 0,0,256,0."
        )
    left, top, right, bottom = map(int, args.extend.split(","))
    return extended(init, left, top, right, bottom)
