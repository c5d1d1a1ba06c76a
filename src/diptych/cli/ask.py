"""Ask questions about a picture; it is looked at once.

diptych ask a.png "how many stars are there?"
diptych ask a.png "what is there?" "what color is it?"
diptych ask a.png "what is it?" --choose "a star" --choose "a circle"
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from diptych.cli.reading import add_reader_arguments, decoding_of, loaded

if TYPE_CHECKING:
    from PIL import Image


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("picture", metavar="FILE", help="PNG, JPEG, WebP or GIF")
    parser.add_argument("questions", nargs="+", metavar="QUESTION", help="what to ask")
    parser.add_argument(
        "--choose", action="append", metavar="ANSWER", help="one of the answers to choose from"
    )
    add_reader_arguments(parser)


def run(args: Namespace) -> int:
    from diptych.foundation.errors import InvalidValue
    from diptych.imaging.pictures import read_picture

    decoding = decoding_of(args)
    if not all(question.strip() for question in args.questions):
        raise InvalidValue("The question is empty.", do='Ask, as "how many stars?".')
    picture = read_picture(args.picture)  # before a model is loaded in vain
    if args.choose:
        return _choose(args, picture)
    answers = loaded(args).answers(picture, args.questions, decoding)
    if args.json:
        rows = [
            {"question": q, "text": a.text, "score": a.score, "confidence": a.confidence}
            for q, a in zip(args.questions, answers, strict=True)
        ]
        print(json.dumps(rows, indent=2))
        return 0
    for question, answer in zip(args.questions, answers, strict=True):
        print(answer.text if len(answers) == 1 else f"{question} {answer.text}")
    return 0


def _choose(args: Namespace, picture: Image.Image) -> int:
    from diptych.foundation.errors import InvalidValue

    if decoding_of(args) is not None:
        raise InvalidValue("Given answers are scored, none is drawn.", do="Leave the options out.")
    reader = loaded(args)
    for question in args.questions:
        found = reader.choose(picture, question, args.choose)
        if args.json:
            print(json.dumps([{"text": one.text, "score": one.score} for one in found]))
            continue
        if len(args.questions) > 1:
            print(question)
        for one in found:
            print(f"{one.score:6.3f}  {one.text}")
    return 0
