"""Say what is in pictures.

diptych caption a.png b.png
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from diptych.cli.reading import add_model_arguments, respond_to_files


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", metavar="FILE", help="PNG, JPEG, WebP or GIF")
    parser.add_argument("--detailed", action="store_true", help="everything, with its place")
    add_model_arguments(parser)


def run(args: Namespace) -> int:
    task = "describe" if args.detailed else "caption"
    return respond_to_files(
        args.pictures,
        task,
        model=args.model,
        device=args.device,
        dtype=args.dtype,
        offline=args.offline,
        as_json=args.json,
    )
