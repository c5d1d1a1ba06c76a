"""Build and look at data.

diptych data preview scenes -o scenes.png
diptych data emoji --out emoji
diptych data check "emoji/*.tar"
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.data.scenes.vocabulary import SPLITS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def add_arguments(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    preview = verbs.add_parser("preview", help="draw a contact sheet")
    preview.add_argument("world", metavar="SET", help="scenes, or shards: a folder or .tar files")
    preview.add_argument("-o", "--output", metavar="FILE", help="(scenes.png or shards.png)")
    preview.add_argument("--split", default="train", choices=SPLITS, help="of scenes")
    preview.add_argument("--size", type=int, default=64, help="pixels of a scene (64)")
    preview.add_argument("--seed", type=int, default=0, help="of scenes (0)")
    preview.add_argument("--count", type=int, default=32, help="pictures (32)")
    preview.set_defaults(work=_preview)
    emoji = verbs.add_parser("emoji", help="build the emoji set: drawings in seven styles")
    emoji.add_argument("--out", default="emoji", metavar="DIR", help="where to write it (emoji)")
    emoji.add_argument("--size", type=int, default=96, help="pixels of a drawing (96)")
    emoji.add_argument("--json", action="store_true", help="print one JSON object")
    emoji.set_defaults(work=_emoji)
    check = verbs.add_parser("check", help="read shards through, and name what is damaged")
    check.add_argument("places", nargs="+", metavar="SHARDS", help=".tar files, folders, addresses")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(work=_check)


def run(args: Namespace) -> int:
    return args.work(args)


def _emoji(args: Namespace) -> int:
    import json

    from diptych.cli.console import drawing
    from diptych.data.emoji.build import build

    with drawing("emoji", "picture") as report:
        index = build(Path(args.out), size=args.size, report=report)
    if args.json:
        print(json.dumps(index))
        return 0
    counts = ", ".join(f"{split} {count}" for split, count in index["pictures"].items())
    print(f"{index['names']} names in {len(index['styles'])} styles: {counts} pictures.")
    for style, count in index["styles"].items():
        print(f"  {style:12} {count:5}  {index['licenses'][style]}")
    for failed in index["failed"]:
        print(f"  left out: {failed}")
    print(f"The set is in {args.out}; learn it by: diptych train emoji-i2t --data {args.out}")
    return 0


def _check(args: Namespace) -> int:
    import json
    from dataclasses import asdict

    from diptych.cli.console import drawing
    from diptych.data.shards import Account, read_shards
    from diptych.foundation.progress import Progress

    account = Account()
    with drawing("reading", "sample") as report:
        for _ in read_shards(args.places, account):
            report(Progress(account.read, 0))
    if args.json:
        print(json.dumps(asdict(account)))
    else:
        print(f"{account.read} samples are good, {len(account.broken)} broken.")
        for broken in account.broken:
            print(f"  {broken}")
    return 4 if account.broken else 0


def _preview(args: Namespace) -> int:
    from diptych.foundation.errors import InvalidValue
    from diptych.imaging.sheet import write_sheet

    if not 1 <= args.count <= 1024:
        raise InvalidValue(f"--count {args.count} is not offered.", do="Choose 1 to 1024.")
    scenes = args.world == "scenes"
    pictures, words = _scenes(args) if scenes else _shards(args)
    output = args.output or ("scenes.png" if scenes else "shards.png")
    write_sheet(pictures, words, None, Path(output), width=max(128, pictures[0].shape[0]))
    print(output)
    return 0


def _shards(args: Namespace) -> tuple[list[NDArray[np.uint8]], list[str]]:
    from itertools import islice

    from diptych.data.shards import Account, read_shards
    from diptych.foundation.errors import Unreadable
    from diptych.imaging.pictures import to_square

    account = Account()
    samples = list(islice(read_shards(args.world, account), args.count))
    if not samples:
        raise Unreadable(
            f"{args.world!r} holds no sample that can be read.",
            do=f"First damage: {account.broken[0]}." if account.broken else "",
        )
    return [to_square(sample.picture, 128) for sample in samples], [s.text for s in samples]


def _scenes(args: Namespace) -> tuple[list[NDArray[np.uint8]], list[str]]:
    from diptych.data.scenes.captions import short
    from diptych.data.scenes.questions import questions
    from diptych.data.scenes.render import render
    from diptych.data.scenes.world import World, pick
    from diptych.foundation.randomness import stream

    world = World(split=args.split, size=args.size)
    pictures, words = [], []
    for index in range(args.count):
        scene, draw = world.scene(args.seed, index), stream(args.seed, 1, index)
        asked = pick(draw, questions(scene, draw, args.split))
        pictures.append(render(scene, args.size))
        words.append(f"{short(scene, draw)}. {asked.text} {asked.answer}")
    return pictures, words
