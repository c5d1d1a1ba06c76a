"""Paint prompts, read the pictures back, judge them: one page, demo/index.html.

diptych demo
diptych demo "a large red circle above a small blue square"
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="what to paint (a dozen)")
    parser.add_argument("-o", "--output", default="demo", metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-open", action="store_true", help="do not open a browser")


def run(args: Namespace) -> int:
    from pathlib import Path

    from diptych.apps.demo import PROMPTS, show
    from diptych.apps.demo_page import ModelRecord, write_page
    from diptych.cli.console import drawing
    from diptych.pipelines.painter_front import TextToImage
    from diptych.pipelines.reader_front import ImageToText
    from diptych.pipelines.reference import SHIPPED, shipped_folder

    prompts = [prompt for prompt in args.prompts if prompt] or list(PROMPTS)
    painter, reader = TextToImage.load("scenes-t2i"), ImageToText.load("scenes-i2t")
    with drawing("painting", "step") as report:
        shown = show(painter, reader, prompts, seed=args.seed, report=report)
    for one in shown:
        mark = "right" if one.verdict.right else "not right"
        print(f"{one.prompt}\n  read back: {one.caption}\n  {one.question} {one.answer}\n  {mark}")
    page = Path(args.output) / "index.html"
    models = [ModelRecord.of(shipped_folder(name)) for name in SHIPPED]
    write_page(page, shown, models, steps=painter.sampling.steps)
    print(
        f"\n{sum(one.verdict.right for one in shown)} of {len(shown)} are fully right. See {page}"
    )
    if not args.no_open and _has_desktop():
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
    return 0


def _has_desktop() -> bool:
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True
