"""Score models on combinations never trained on: `scenes` judges painting and reading exactly,
`retrieval` counts how often the right picture or caption is found among many.

diptych eval scenes --split heldout --json
diptych eval retrieval --model scenes-clip
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from time import perf_counter, process_time

from diptych.cli.parsing import OFFLINE


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("suite", choices=list(_SUITES), help="what to score on")
    parser.add_argument("--split", default="heldout", choices=["heldout", "tune", "train"])
    parser.add_argument("--t2i", default="scenes-t2i", metavar="MODEL", help="the painter, or none")
    parser.add_argument("--i2t", default="scenes-i2t", metavar="MODEL", help="the reader, or none")
    parser.add_argument(
        "--model", default="scenes-clip", metavar="MODEL", help="the dual encoder of retrieval"
    )
    parser.add_argument(
        "--gallery", type=int, default=500, metavar="N", help="pictures to find one among (500)"
    )
    parser.add_argument("--captions", type=int, default=500, metavar="N", help="captions (500)")
    parser.add_argument(
        "--questions", type=int, default=200, metavar="N", help="questions of each kind (200)"
    )
    parser.add_argument(
        "--prompts", type=int, default=100, metavar="N", help="prompts of each kind (100)"
    )
    parser.add_argument("--steps", type=int, help="steps of the solver (the model's own)")
    parser.add_argument("--guidance", type=float, help="guidance (the model's own)")
    parser.add_argument("--shift", type=float, help="shift of the times (the model's own)")
    parser.add_argument("--solver", metavar="NAME", help="solver (the model's own)")
    parser.add_argument("--spacing", metavar="NAME", help="where it stops (the model's own)")
    parser.add_argument("--offline", action="store_true", help=OFFLINE)
    parser.add_argument("--sheet", metavar="FILE", help="write the first 64 pictures as a sheet")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: Namespace) -> int:
    from diptych.foundation.errors import InvalidValue

    for name in ("captions", "questions", "prompts", "gallery"):
        if getattr(args, name) < 1:
            raise InvalidValue(f"--{name} must be at least 1, not {getattr(args, name)}.")
    started, cpu = perf_counter(), process_time()
    scores = {"split": args.split, **_SUITES[args.suite](args)}
    scores["seconds"] = round(perf_counter() - started, 1)
    scores["cpu_seconds"] = round(process_time() - cpu, 1)
    print(json.dumps(scores, indent=2) if args.json else _table(scores))
    return 0


def _scenes(args: Namespace) -> dict[str, object]:
    scores: dict[str, object] = {}
    if args.i2t != "none":
        scores |= _read(args)
    if args.t2i != "none":
        scores |= _paint(args)
    scores["samples"] = {
        "captions": args.captions if args.i2t != "none" else 0,
        "questions_a_kind": args.questions if args.i2t != "none" else 0,
        "prompts_a_kind": args.prompts if args.t2i != "none" else 0,
    }
    return scores


def _retrieval(args: Namespace) -> dict[str, object]:
    from diptych.cli.console import drawing
    from diptych.evaluation.scenes.suite import retrieval_suite
    from diptych.pipelines.folders import read_dual_encoder
    from diptych.pipelines.reference import folder_of

    networks = read_dual_encoder(folder_of(args.model, offline=args.offline))
    with drawing("embedding") as report:
        scores = retrieval_suite(networks, args.split, count=args.gallery, report=report)
    return scores | {"samples": {"pictures": args.gallery}}


def _read(args: Namespace) -> dict[str, object]:
    from diptych.cli.console import drawing
    from diptych.evaluation.scenes.suite import reading_suite
    from diptych.pipelines.folders import read_image_to_text
    from diptych.pipelines.reference import folder_of

    networks = read_image_to_text(folder_of(args.i2t, offline=args.offline))
    with drawing("reading") as report:
        return reading_suite(
            networks, args.split, captions=args.captions, each=args.questions, report=report
        )


def _paint(args: Namespace) -> dict[str, object]:
    from dataclasses import replace
    from pathlib import Path

    from diptych.cli.console import drawing
    from diptych.evaluation.scenes.suite import painting_suite
    from diptych.imaging.sheet import write_sheet
    from diptych.pipelines.folders import read_text_to_image
    from diptych.pipelines.reference import folder_of

    networks, sampling = read_text_to_image(folder_of(args.t2i, offline=args.offline))
    asked = {key: getattr(args, key) for key in ("steps", "guidance", "shift", "solver", "spacing")}
    sampling = replace(
        sampling, **{key: value for key, value in asked.items() if value is not None}
    )
    with drawing("painting") as report:
        scores, painted = painting_suite(
            networks, sampling, args.split, each=args.prompts, report=report
        )
    if args.sheet:
        shown = painted[:: max(1, len(painted) // 64)][:64]
        write_sheet(
            [one.picture for one in shown],
            [one.prompt.text for one in shown],
            [one.verdict.right for one in shown],
            Path(args.sheet),
        )
    return scores


_SUITES = {"scenes": _scenes, "retrieval": _retrieval}


def _table(scores: dict[str, object]) -> str:
    lines = [f"split {scores['split']}: share that is right, with its 95 % interval"]
    for name, value in scores.items():
        if not isinstance(value, dict) or name == "samples":
            continue
        if "value" in value:
            lines.append(_line(name, value))
        else:
            lines += [_line(f"  {kind}", score) for kind, score in value.items()]
    return "\n".join([*lines, f"{scores['seconds']} s, {scores['cpu_seconds']} s of CPU"])


def _line(name: str, score: dict[str, float]) -> str:
    value, low, high = (100 * score[key] for key in ("value", "low", "high"))
    return f"{name:28} {value:5.1f} %   {low:5.1f} .. {high:5.1f}   n = {score['n']}"
