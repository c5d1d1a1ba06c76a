"""Paint prompts, read the pictures back, judge them: one page, demo/index.html. Then once through
the server: a picture and what is read in it.

diptych demo
diptych demo "a large red circle above a small blue square"
diptych demo --once
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="what to paint (a dozen)")
    parser.add_argument("-o", "--output", default="demo", metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--once", action="store_true", help="only once through the server")
    parser.add_argument("--no-open", action="store_true", help="do not open a browser")


def run(args: Namespace) -> int:
    from diptych.apps.demo import PROMPTS, show
    from diptych.apps.demo_page import ModelRecord, write_page
    from diptych.cli.console import drawing
    from diptych.pipelines.painter_front import TextToImage
    from diptych.pipelines.reader_front import ImageToText
    from diptych.pipelines.reference import SHIPPED, shipped_folder

    prompts = [prompt for prompt in args.prompts if prompt] or list(PROMPTS)
    if args.once:
        return _through_the_server(prompts[0], args.seed, Path(args.output))
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
    return _through_the_server(prompts[0], args.seed, Path(args.output))


def _through_the_server(prompt: str, seed: int, folder: Path) -> int:
    from diptych.foundation.files import write_whole
    from diptych.service.first import first_picture

    first = first_picture(prompt, seed)
    path = write_whole(folder / "served.png", first.picture)
    print(f"\nThrough the server: {prompt}\n  read back: {first.caption}")
    print(f"  {first.seconds:.1f} s, {path}. `diptych serve` keeps it open.")
    return 0


def _has_desktop() -> bool:
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True
