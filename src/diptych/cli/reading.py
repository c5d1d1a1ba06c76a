"""What the verbs that read pictures share: load, ask, print."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.cli.parsing import OFFLINE

if TYPE_CHECKING:
    from diptych.decoding.choices import Decoding
    from diptych.pipelines.reader_front import ImageToText

MANY = 64  # pictures in one pass


def add_model_arguments(
    parser: ArgumentParser, default: str = "scenes-i2t", *, as_json: bool = True
) -> None:
    """`--model`, `--device`, `--dtype`, `--offline`, and `--json` where answers are printed."""
    parser.add_argument("--model", default=default, help=f"a name, folder or hub id ({default})")
    parser.add_argument("--device", help="cuda, mps or cpu (the best there is)")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (what fits the device)")
    parser.add_argument("--offline", action="store_true", help=OFFLINE)
    if as_json:
        parser.add_argument("--json", action="store_true", help="print JSON with scores")


def add_reader_arguments(parser: ArgumentParser) -> None:
    """The same, and how words are chosen."""
    add_model_arguments(parser)
    parser.add_argument(
        "--calibration", metavar="FILE", help="of `diptych calibrate` (the model's own)"
    )
    words = parser.add_argument_group("how words are chosen")
    words.add_argument("--max-tokens", type=int, metavar="N", help="of an answer (256)")
    words.add_argument("--temperature", type=float, metavar="T", help="draw; 0 takes the likeliest")
    words.add_argument("--top-k", type=int, metavar="K", help="draw from so many tokens")
    words.add_argument("--top-p", type=float, metavar="P", help="draw from the likeliest with P")
    words.add_argument("--beams", type=int, metavar="N", help="search with N beams")
    words.add_argument("--seed", type=int, metavar="N", help="of the draw (0)")


_OPTIONS = {
    "max_tokens": "most", "temperature": "temperature", "top_k": "top_k", "top_p": "top_p",
    "beams": "beams", "seed": "seed",
}  # fmt: skip


def decoding_of(args: Namespace, most: int = 256) -> Decoding | None:
    """What was said of how words are chosen, or None. Raises InvalidValue."""
    from diptych.decoding.choices import Decoding
    from diptych.foundation.errors import InvalidValue

    said = {ours: getattr(args, theirs) for theirs, ours in _OPTIONS.items()}
    given: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    if not given:
        return None
    if not given.get("temperature"):
        for name in ("top_k", "top_p", "seed"):
            if name in given:
                raise InvalidValue(
                    f"--{name.replace('_', '-')} is for drawing.", do="Add --temperature 1."
                )
    given.setdefault("most", most)
    return Decoding(**given)


def loaded(args: Namespace) -> ImageToText:
    """The model that was named. Raises DiptychError."""
    from diptych.pipelines.reader_front import ImageToText

    return ImageToText.load(
        args.model, device=args.device, dtype=args.dtype, offline=args.offline,
        calibration=getattr(args, "calibration", None) or True,
    )  # fmt: skip


def respond_to_files(files: Sequence[str], task: str, args: Namespace) -> int:
    """Print one answer a file, each behind its name where there are several."""
    from diptych.imaging.pictures import read_picture

    decoding = decoding_of(args)
    pictures = [read_picture(path) for path in files]  # before a model is loaded in vain
    reader = loaded(args)
    answers = [
        answer
        for start in range(0, len(pictures), MANY)
        for answer in reader.respond(
            pictures[start : start + MANY], [task] * len(pictures[start : start + MANY]), decoding
        )
    ]
    if args.json:
        rows = [
            {"file": path, "text": a.text, "score": a.score, "confidence": a.confidence}
            for path, a in zip(files, answers, strict=True)
        ]
        print(json.dumps(rows, indent=2))
        return 0
    for path, answer in zip(files, answers, strict=True):
        print(answer.text if len(files) == 1 else f"{path}: {answer.text}")
    return 0


def respond_to_folder(folder: Path, task: str, args: Namespace) -> int:
    """One line of JSON for each picture of a folder, in `--output`; resumed where it stopped."""
    from diptych.apps.captions import caption_folder, pictures_in
    from diptych.cli.console import drawing

    decoding = decoding_of(args)
    out = Path(args.output or "captions.jsonl")
    pictures_in(folder)  # before a model is loaded in vain
    reader = loaded(args)
    with drawing(folder.name or "pictures", "picture") as report:
        made = caption_folder(
            lambda pictures: reader.respond(pictures, [task] * len(pictures), decoding),
            folder, out, report,
        )  # fmt: skip
    there = f", {made.before} were there" if made.before else ""
    bad = f", {made.unreadable} cannot be read" if made.unreadable else ""
    print(f"{out}: {made.written} pictures{there}{bad}")
    return 0
