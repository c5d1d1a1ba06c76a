"""Look at data.

diptych data preview scenes -o scenes.png
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from diptych.data.scenes.vocabulary import SPLITS


def add_arguments(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    preview = verbs.add_parser("preview", help="draw a contact sheet")
    preview.add_argument("world", choices=["scenes"])
    preview.add_argument("-o", "--output", default="scenes.png", metavar="FILE")
    preview.add_argument("--split", default="train", choices=SPLITS)
    preview.add_argument("--size", type=int, default=64, help="pixels of a picture (64)")
    preview.add_argument("--seed", type=int, default=0)
    preview.add_argument("--count", type=int, default=32, help="pictures (32)")


def run(args: Namespace) -> int:
    from pathlib import Path

    from diptych.data.scenes.captions import short
    from diptych.data.scenes.questions import questions
    from diptych.data.scenes.render import render
    from diptych.data.scenes.world import World, pick
    from diptych.foundation.errors import InvalidValue
    from diptych.foundation.randomness import stream
    from diptych.imaging.sheet import write_sheet

    if not 1 <= args.count <= 1024:
        raise InvalidValue(f"--count {args.count} is not offered.", do="Choose 1 to 1024.")
    world = World(split=args.split, size=args.size)
    pictures, words = [], []
    for index in range(args.count):
        scene, draw = world.scene(args.seed, index), stream(args.seed, 1, index)
        asked = pick(draw, questions(scene, draw, args.split))
        pictures.append(render(scene, args.size))
        words.append(f"{short(scene, draw)}. {asked.text} {asked.answer}")
    write_sheet(pictures, words, None, Path(args.output), width=max(128, args.size))
    print(args.output)
    return 0
