"""Fit how sure a reader may be of its answers, on pictures whose answers are known; `confidence`
is then the probability that an answer is right, and `diptych ask --abstain` holds back the rest.

diptych calibrate scenes-i2t --data scenes -o scenes.calibration.json
diptych calibrate smolvlm/ --data labelled/ --by isotonic

DATA is a JSONL file, or a folder with one, of lines {"file", "question", "answer"} or
{"file", "caption"}; an answer may be a list of right ones.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.cli.parsing import OFFLINE

if TYPE_CHECKING:
    from diptych.evaluation.calibrating import Judged
    from diptych.pipelines.calibration import Calibration
    from diptych.pipelines.reader_front import ImageToText


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a name, folder or hub id")
    parser.add_argument("--data", required=True, metavar="DATA", help="scenes, a file or a folder")
    parser.add_argument("--by", default="platt", choices=["platt", "temperature", "isotonic"])
    parser.add_argument("--most", type=int, metavar="N", help="answers (all; of scenes 1400)")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to write (calibration.json with the model)"
    )
    parser.add_argument("--device", help="cuda, mps or cpu (the best there is)")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (what fits the device)")
    parser.add_argument("--offline", action="store_true", help=OFFLINE)
    parser.add_argument("--json", action="store_true", help="print the calibration as JSON")


def run(args: Namespace) -> int:
    from diptych.evaluation.calibrating import LEAST, fitted
    from diptych.foundation.errors import InvalidValue
    from diptych.pipelines.calibration import mark_of
    from diptych.pipelines.reference import folder_of

    if args.most is not None and args.most < LEAST:
        raise InvalidValue(f"--most must be at least {LEAST}, not {args.most}.")
    folder = folder_of(args.model, offline=args.offline)
    out = _place(args, folder)
    judged = _judged(args)
    found = fitted(judged, args.by, model=mark_of(folder))
    found.write(out)
    print(out.read_text().rstrip() if args.json else _table(args.model, judged, found, out))
    return 0


def _place(args: Namespace, folder: Path) -> Path:
    """Where to write; said before hours of answers. Raises InvalidValue."""
    from diptych.foundation.errors import InvalidValue
    from diptych.pipelines.calibration import FILE
    from diptych.pipelines.reference import SHIPPED

    if args.output:
        return Path(args.output)
    if args.model in SHIPPED or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InvalidValue(
            f"{args.model} is not yours to write to.",
            do=f"Name a file: -o {folder.stem}.calibration.json; --calibration FILE reads it.",
        )
    return folder / FILE


def _judged(args: Namespace) -> list[Judged]:
    from diptych.cli.console import drawing
    from diptych.data.labels import read_labels
    from diptych.evaluation.calibrating import judged_labels, judged_scenes
    from diptych.foundation.errors import InvalidValue
    from diptych.pipelines.image_to_text import ImageToTextNetworks

    if args.data != "scenes":
        labels = read_labels(Path(args.data), args.most)  # before a model is loaded in vain
        with drawing("answering", "answer") as report:
            return judged_labels(_loaded(args), labels, report)
    networks = _loaded(args).networks
    if not isinstance(networks, ImageToTextNetworks):
        raise InvalidValue(
            f"{args.model} was not trained on scenes.", do="Name a folder of labelled pictures."
        )
    with drawing("answering", "answer") as report:
        return judged_scenes(networks, args.most or 1400, report)


def _loaded(args: Namespace) -> ImageToText:
    """The model without any calibration: one that fits no more is what is being replaced."""
    from diptych.pipelines.reader_front import ImageToText

    return ImageToText.load(
        args.model, device=args.device, dtype=args.dtype, offline=args.offline, calibration=False
    )


def _table(name: str, judged: list[Judged], found: Calibration, out: Path) -> str:
    share = sum(one.right for one in judged) / len(judged)
    lines = [
        f"{name}: {len(judged)} answers, {100 * share:.1f} % right",
        f"fitted on {found.n} by {found.by}, measured on {found.tried} about other pictures",
        f"calibration error  {found.before or 0.0:.4f} before, {found.error:.4f} after",
        "answered    wrong   from confidence",
    ]
    for point in found.risk:
        covered, risk = 100 * point.coverage, 100 * point.risk
        lines.append(f"{covered:6.1f} %  {risk:5.1f} %   {point.threshold:.4f}")
    return "\n".join([*lines, f"written to {out}"])
