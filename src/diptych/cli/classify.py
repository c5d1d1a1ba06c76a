"""Say which of some labels a picture fits, without training.

diptych classify photo.jpg cat dog "a red car" --model openai/clip-vit-large-patch14
diptych classify photo.jpg cat dog --model FOLDER --template "a drawing of a {}."

CLIP shares 1 among the labels; SigLIP says of each how likely it is by itself. Neither is
calibrated. The shipped model knows scenes: diptych classify a.png "a red circle" "a blue star".
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from diptych.cli.reading import add_model_arguments
from diptych.foundation.errors import InvalidValue


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("picture", metavar="FILE", help="PNG, JPEG, WebP or GIF")
    parser.add_argument("labels", nargs="+", metavar="LABEL", help="what it may be")
    parser.add_argument(
        "--template",
        action="append",
        metavar="TEXT",
        help="the sentence around a label, at {}; several are averaged (the model's own)",
    )
    parser.add_argument(
        "--ensemble", action="store_true", help="average the seven sentences of CLIP's authors"
    )
    parser.add_argument("--top", type=int, metavar="N", help="print the N best (all)")
    add_model_arguments(parser, "scenes-clip")


def run(args: Namespace) -> int:
    from diptych.imaging.pictures import read_picture
    from diptych.pipelines.classifying import ENSEMBLE
    from diptych.pipelines.dual_front import DualEncoder

    if args.top is not None and args.top < 1:
        raise InvalidValue(f"--top is {args.top}.", do="At least 1.")
    if args.ensemble and args.template:
        raise InvalidValue("--ensemble and --template are both given.", do="Leave one out.")
    picture = read_picture(args.picture)  # before a model is loaded in vain
    encoder = DualEncoder.load(
        args.model, device=args.device, dtype=args.dtype, offline=args.offline
    )
    templates = ENSEMBLE if args.ensemble else args.template
    (found,) = encoder.classify([picture], args.labels, templates=templates)
    best = found[: args.top]
    if args.json:
        rows = [{"label": one.label, "score": one.score} for one in best]
        print(json.dumps({"file": args.picture, "labels": rows}, indent=2))
        return 0
    for one in best:
        print(f"{one.score:.4f}  {one.label}")
    return 0
