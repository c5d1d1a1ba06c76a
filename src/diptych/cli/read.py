"""Read what is written in pictures; an empty line where nothing is.

diptych read a.png
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from diptych.cli.reading import add_reader_arguments, respond_to_files


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", metavar="FILE", help="PNG, JPEG, WebP or GIF")
    add_reader_arguments(parser)


def run(args: Namespace) -> int:
    return respond_to_files(args.pictures, "read", args)
