"""Read what is written in pictures; an empty line where nothing is.

diptych read a.png
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from diptych.cli.reading import add_model_arguments, respond_to_files


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", metavar="FILE", help="PNG, JPEG, WebP or GIF")
    add_model_arguments(parser)


def run(args: Namespace) -> int:
    return respond_to_files(
        args.pictures,
        "read",
        model=args.model,
        device=args.device,
        dtype=args.dtype,
        offline=args.offline,
        as_json=args.json,
    )
