"""Paint pictures from words.

diptych generate "a large red circle above a small blue square" --seed 1 -o a.png
diptych generate "two green stars" --count 8 --grid stars.png
diptych generate --like a.png -o again.png
"""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.cli import canvases, conditions, marks, shortcuts
from diptych.cli.parsing import OFFLINE

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.imaging.credentials import Certificate

# What a picture's recipe says that only a flag can give again.
_BESIDE = {
    "controls": "control", "image_prompts": "image_prompt", "refiner": "refiner", "loras": "lora",
    "words": "word", "enlarge": "enlarge", "tiling": "tile",
    "approximations": "approximate", "hidiffusion": "hidiffusion", "consistent": "consistent",
}  # fmt: skip
_TAKEN_OVER = (
    "negative_prompt", "seed", "steps", "guidance", "shift", "solver", "spacing", "noise", "model",
    "strength", "image_guidance", "true_guidance", "clip_skip", "dtype",
)  # fmt: skip


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="what to paint")
    parser.add_argument("-o", "--output", metavar="FILE", help="a .png, or a folder for several")
    parser.add_argument("--seed", type=int, help="the first seed (0)")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="pictures a prompt (1)")
    parser.add_argument("--negative-prompt", metavar="WORDS", help="what to keep away from")
    parser.add_argument("--steps", type=int, help="steps of the solver (the model's own)")
    parser.add_argument("--guidance", type=float, help="how hard to follow the words")
    parser.add_argument("--shift", type=float, help="how many steps are spent near noise")
    parser.add_argument("--solver", metavar="NAME", help="as euler, heun, unipc (the model's own)")
    parser.add_argument(
        "--spacing", metavar="NAME", help="where it stops: trailing, beta, karras, leading"
    )
    parser.add_argument("--noise", metavar="NAME", help="torch, or philox: alike on all machines")
    parser.add_argument("--size", metavar="WxH", help="width and height in pixels")
    parser.add_argument(
        "--model", metavar="MODEL", help="a name, folder, weight file or hub id (scenes-t2i)"
    )
    parser.add_argument("--device", help="cuda, mps or cpu (the best there is)")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (what fits the device)")
    parser.add_argument("--offline", action="store_true", help=OFFLINE)
    parser.add_argument("--init", metavar="FILE", help="begin from this picture")
    parser.add_argument("--mask", metavar="FILE", help="white where the picture is painted anew")
    parser.add_argument("--strength", type=float, help="share of the steps made from it (0.6)")
    canvases.add_arguments(parser)
    conditions.add_arguments(parser)
    shortcuts.add_arguments(parser)
    marks.add_arguments(parser)
    parser.add_argument("--like", metavar="FILE", help="repeat a picture; what is said here wins")
    parser.add_argument("--grid", metavar="FILE", help="write all pictures as one sheet")
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")


def run(args: Namespace) -> int:
    from diptych.foundation.errors import InvalidValue

    said = _said(args)
    # A model of one's own may read nothing; it says so itself.
    plain = [said.get("prompt") or ""] if said.get("prompt") or said.get("model") else []
    prompts = args.prompts or plain
    if not prompts:
        raise InvalidValue("There is no prompt.", do='diptych generate "a red circle" -o a.png')
    if not 1 <= args.count <= 1024:
        raise InvalidValue(f"--count {args.count} is not offered.", do="Choose 1 to 1024.")
    asked = [prompt for prompt in prompts for _ in range(args.count)]
    seeds = [(said.get("seed") or 0) + i for _ in prompts for i in range(args.count)]
    paths = _paths(args, asked, seeds)
    certificate = marks.certificate_by(args)
    pictures = _painted(args, said, asked, seeds)
    _write(args, pictures, asked, paths, certificate)
    return 0


def _said(args: Namespace) -> dict[str, Any]:
    """What the picture of `--like` says, under what the command line says."""
    from dataclasses import asdict

    said: dict[str, Any] = {}
    if args.like:
        from diptych.imaging.recipe import recipe_of

        said = asdict(recipe_of(args.like))
    return said | {key: v for key in _TAKEN_OVER if (v := getattr(args, key)) is not None}


def _paths(args: Namespace, prompts: list[str], seeds: list[int]) -> list[Path]:
    """Where each picture goes; checked before anything is painted."""
    from diptych.foundation.errors import InvalidValue

    if args.output and args.output.lower().endswith(".png"):
        if len(prompts) > 1:
            raise InvalidValue(
                f"{len(prompts)} pictures do not fit into {args.output!r}.",
                do="Name a folder with -o, or one sheet with --grid.",
            )
        return [Path(args.output)]
    if args.output and Path(args.output).suffix:
        raise InvalidValue(f"{args.output!r} is no PNG.", do="Name a .png file or a folder.")
    if args.grid and not args.output:
        return []
    folder = Path(args.output or ".")
    names = [re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60] for prompt in prompts]
    return [
        folder / f"{name or 'picture'}-{seed}.png" for name, seed in zip(names, seeds, strict=True)
    ]


def _painted(
    args: Namespace, said: dict[str, Any], prompts: list[str], seeds: list[int]
) -> list[Image]:
    from diptych.cli.console import drawing
    from diptych.foundation.errors import InvalidValue
    from diptych.pipelines.painter_front import TextToImage

    width, height = _size(args.size) if args.size else (said.get("width"), said.get("height"))
    init, mask = (_picture(path) for path in (args.init, args.mask))
    for name, picture in (("init", init), ("mask", mask)):
        if said.get(name) and picture is None:
            raise InvalidValue(
                f"{args.like!r} was painted from another picture.", do=f"Name it with --{name}."
            )
    for name, flag in _BESIDE.items():
        if said.get(name) and not getattr(args, flag):
            what = f"{args.like!r} was painted with {said[name]}."
            raise InvalidValue(what, do=f"Name it with --{flag.replace('_', '-')}.")
    if said.get("enlarge") and not args.size:
        raise InvalidValue(
            f"{args.like!r} was enlarged, and does not say from which size.", do="Give --size."
        )
    init, mask = canvases.extended_by(args, init, mask)
    if init is None and args.strength is None:
        said.pop("strength", None)
    model = TextToImage.load(
        said.get("model") or "scenes-t2i",
        device=args.device,
        dtype=said.get("dtype") or None,
        offline=args.offline,
    )
    beside = conditions.conditions_of(args, said, model) | canvases.canvases_of(args)
    beside |= shortcuts.shortcuts_of(args, model)
    with drawing("painting", "step") as report:
        pictures = model(
            prompts,
            negative_prompt=said.get("negative_prompt") or "",
            seed=seeds,
            steps=said.get("steps"),
            guidance=said.get("guidance"),
            shift=said.get("shift"),
            solver=said.get("solver"),
            spacing=said.get("spacing"),
            noise=said.get("noise"),
            init=init,
            mask=mask,
            strength=said.get("strength"),
            width=width,
            height=height,
            report=report,
            **beside,
        )
    return pictures if isinstance(pictures, list) else [pictures]


def _picture(path: str | None) -> Image | None:
    if path is None:
        return None
    from diptych.imaging.pictures import read_picture

    return read_picture(path)


def _size(text: str) -> tuple[int, int]:
    from diptych.foundation.errors import InvalidValue

    match = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text)
    if not match:
        raise InvalidValue(f"--size {text!r} is no size.", do="Write width x height, as 64x64.")
    return int(match[1]), int(match[2])


def _write(
    args: Namespace,
    pictures: list[Image],
    prompts: list[str],
    paths: list[Path],
    certificate: Certificate | None,
) -> None:
    from dataclasses import asdict

    made: list[dict[str, Any]] = []
    for picture, path in zip(pictures, paths, strict=False):
        marks.write(path, picture, certificate, marks=not args.no_marks)
        made.append({"file": str(path), **asdict(picture.info["recipe"])})
    if args.grid:
        import numpy as np

        from diptych.imaging.sheet import write_sheet

        columns = min(8, len(pictures))
        write_sheet(
            [np.asarray(p) for p in pictures], prompts, None, Path(args.grid), columns=columns
        )
        made.append({"sheet": args.grid})
    if args.json:
        print(json.dumps(made, indent=2))
    else:
        print("\n".join(str(one.get("file") or one["sheet"]) for one in made))
