"""What the verbs that read pictures share: load, ask, print."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Sequence

from diptych.cli.parsing import OFFLINE

MANY = 64  # pictures in one pass


def add_model_arguments(parser: ArgumentParser) -> None:
    """`--model`, `--device`, `--dtype`, `--offline` and `--json`."""
    parser.add_argument("--model", default="scenes-i2t", help="a name, folder or hub id")
    parser.add_argument("--device", help="cuda, mps or cpu (the best there is)")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (what fits the device)")
    parser.add_argument("--offline", action="store_true", help=OFFLINE)
    parser.add_argument("--json", action="store_true", help="print JSON with scores")


def respond_to_files(
    files: Sequence[str],
    task: str,
    *,
    model: str,
    device: str | None,
    dtype: str | None,
    offline: bool,
    as_json: bool,
) -> int:
    """Print one answer a file, each behind its name where there are several."""
    from diptych.imaging.pictures import read_picture
    from diptych.pipelines.reader_front import ImageToText

    pictures = [read_picture(path) for path in files]  # before a model is loaded in vain
    reader = ImageToText.load(model, device=device, dtype=dtype, offline=offline)
    answers = [
        answer
        for start in range(0, len(pictures), MANY)
        for answer in reader.respond(
            pictures[start : start + MANY], [task] * len(pictures[start : start + MANY])
        )
    ]
    if as_json:
        rows = [
            {"file": path, "text": a.text, "score": a.score, "confidence": a.confidence}
            for path, a in zip(files, answers, strict=True)
        ]
        print(json.dumps(rows, indent=2))
        return 0
    for path, answer in zip(files, answers, strict=True):
        print(answer.text if len(files) == 1 else f"{path}: {answer.text}")
    return 0
