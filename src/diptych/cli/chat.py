"""Talk about pictures with a published model.

diptych chat --model PATH a.png b.png
diptych chat --model PATH a.png --say "What is this?"

Each line you type is a turn; an empty line or Ctrl-D ends. `--say` asks once and prints the answer.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from diptych.cli.reading import add_reader_arguments, decoding_of, loaded


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="*", metavar="FILE", help="shown with the first turn")
    parser.add_argument("--say", metavar="TEXT", help="one turn, and no more")
    parser.add_argument("--system", metavar="TEXT", help="what the model is told before")
    parser.add_argument(
        "--max-visual-tokens", type=int, default=1280, metavar="N", help="of a picture (1280)"
    )
    add_reader_arguments(parser)


def run(args: Namespace) -> int:
    from diptych.foundation.errors import InvalidValue
    from diptych.imaging.pictures import read_picture
    from diptych.pipelines.vlm_networks import VLMNetworks
    from diptych.text.chat import Turn

    if args.json:
        raise InvalidValue("A conversation is not printed as JSON.", do="Use diptych ask --json.")
    decoding = decoding_of(args, most=512)
    pictures = [read_picture(path) for path in args.pictures]
    reader = loaded(args)
    if not isinstance(reader.networks, VLMNetworks):
        raise InvalidValue(
            f"{reader.name} answers single questions.", do="Use diptych ask, or name a --model."
        )
    turns = [Turn("system", args.system)] if args.system else []
    shown = len(pictures)
    while said := (args.say or _typed()):
        turns.append(Turn("user", said, pictures=shown))
        shown = 0  # with the first turn alone
        answer = reader.chat(
            turns, pictures, decoding, watch=_print, max_visual_tokens=args.max_visual_tokens
        )
        print(flush=True)
        if args.say:
            break
        turns.append(Turn("assistant", answer.text))
    return 0


def _print(piece: str) -> None:
    print(piece, end="", flush=True)


def _typed() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""
