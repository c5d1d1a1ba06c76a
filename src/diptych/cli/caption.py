"""Say what is in pictures, or in all pictures of a folder.

diptych caption a.png b.png
diptych caption photos/ -o captions.jsonl

A folder's captions go to a file, one line of JSON a picture; run again, it goes on where it was.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from diptych.cli.reading import add_reader_arguments, respond_to_files, respond_to_folder


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", metavar="FILE", help="a picture, or one folder")
    parser.add_argument("--detailed", action="store_true", help="everything, with its place")
    parser.add_argument("-o", "--output", metavar="FILE", help="of a folder (captions.jsonl)")
    add_reader_arguments(parser)


def run(args: Namespace) -> int:
    from diptych.foundation.errors import InvalidValue

    task = "describe" if args.detailed else "caption"
    folders = [path for path in args.pictures if Path(path).is_dir()]
    if folders and len(args.pictures) > 1:
        raise InvalidValue("A folder is captioned by itself.", do="Name one folder, or pictures.")
    if folders and args.json:
        raise InvalidValue("A folder's captions are JSON already.", do="Leave --json out.")
    if folders:
        return respond_to_folder(Path(folders[0]), task, args)
    if args.output:
        raise InvalidValue("--output is for a folder.", do="Leave it out, or name a folder.")
    return respond_to_files(args.pictures, task, args)
