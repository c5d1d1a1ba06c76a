"""Ask questions about a picture; it is looked at once.

diptych ask a.png "how many stars are there?"
diptych ask a.png "what is there?" "what color is it?"
diptych ask a.png "what color is it?" --explain map.png
diptych ask a.png "how many stars are there?" --abstain 0.9
diptych ask a.png "what is it?" --choose "a star" --choose "a circle"
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.cli.reading import add_reader_arguments, decoding_of, loaded

if TYPE_CHECKING:
    from PIL import Image

    from diptych.pipelines.reading import Answer


NOT_SURE = "not sure"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("picture", metavar="FILE", help="PNG, JPEG, WebP or GIF")
    parser.add_argument("questions", nargs="+", metavar="QUESTION", help="what to ask")
    parser.add_argument(
        "--choose", action="append", metavar="ANSWER", help="one of the answers to choose from"
    )
    parser.add_argument(
        "--explain", metavar="FILE", help="the picture with what the answer rests on, PNG"
    )
    parser.add_argument(
        "--abstain", type=float, metavar="P",
        help=f"say {NOT_SURE!r} where the answer is right with less than P, as calibrated",
    )  # fmt: skip
    add_reader_arguments(parser)


def run(args: Namespace) -> int:
    from diptych.foundation.errors import InvalidValue
    from diptych.imaging.pictures import read_picture
    from diptych.pipelines.calibration import check_abstain, sure

    decoding = decoding_of(args)
    if not all(question.strip() for question in args.questions):
        raise InvalidValue("The question is empty.", do='Ask, as "how many stars?".')
    picture = read_picture(args.picture)  # before a model is loaded in vain
    _check(args)
    if args.choose:
        return _choose(args, picture)
    reader = loaded(args)
    check_abstain(args.abstain, reader.networks.calibration, reader.name)
    if args.explain:
        answers = [reader.answer(picture, args.questions[0], decoding, explain=True)]
        _write(picture, answers[0], Path(args.explain))
    else:
        answers = reader.answers(picture, args.questions, decoding)
    said = [answer.text if sure(answer, args.abstain) else None for answer in answers]
    if args.json:
        rows = [
            {"question": q, "text": text, "score": a.score, "confidence": a.confidence}
            for q, text, a in zip(args.questions, said, answers, strict=True)
        ]
        print(json.dumps(rows, indent=2))
        return 0
    for question, text in zip(args.questions, said, strict=True):
        shown = NOT_SURE if text is None else text
        print(shown if len(answers) == 1 else f"{question} {shown}")
    return 0


def _check(args: Namespace) -> None:
    """What does not go together, before a model is loaded. Raises InvalidValue."""
    from diptych.foundation.errors import InvalidValue

    if args.choose and (args.explain or args.abstain is not None):
        raise InvalidValue(
            "--explain and --abstain are for free answers.", do="Leave them or --choose out."
        )
    if args.explain and len(args.questions) > 1:
        raise InvalidValue("A map is of one answer.", do="Ask one question with --explain.")
    if args.explain and Path(args.explain).suffix.lower() != ".png":
        raise InvalidValue(f"{args.explain!r} is no PNG.", do="Name it with .png.")


def _write(picture: Image.Image, answer: Answer, path: Path) -> None:
    from diptych.foundation.files import write_whole
    from diptych.imaging.overlay import overlaid

    if answer.map is None:
        raise RuntimeError("an explained answer has a map")
    into = BytesIO()
    overlaid(picture, answer.map).save(into, "PNG")
    write_whole(path, into.getvalue())


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
