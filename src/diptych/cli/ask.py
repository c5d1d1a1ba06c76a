"""Ask a question about a picture.

diptych ask a.png "how many stars are there?"
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from diptych.cli.reading import add_model_arguments, respond_to_files


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("picture", metavar="FILE", help="PNG, JPEG, WebP or GIF")
    parser.add_argument("question", help="what to ask")
    add_model_arguments(parser)


def run(args: Namespace) -> int:
    from diptych.foundation.errors import InvalidValue

    question = args.question.strip()
    if not question:
        raise InvalidValue("The question is empty.", do='Ask, as "how many stars?".')
    question = question if question.endswith("?") else f"{question}?"
    return respond_to_files(
        [args.picture],
        question,
        model=args.model,
        device=args.device,
        dtype=args.dtype,
        offline=args.offline,
        as_json=args.json,
    )
