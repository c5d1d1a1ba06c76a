"""Make vectors of pictures and texts in one space, for search and comparison.

diptych embed a.png b.png -o pictures.npy
diptych embed *.jpg --text "a red car" --model FOLDER -o both.safetensors

Each vector has length 1: the product of two is their cosine. A .npy file holds one matrix, so
pictures or texts; .safetensors holds `pictures` [N, D] and `texts` [M, D], and their names.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.cli.reading import MANY, add_model_arguments
from diptych.foundation.errors import InvalidValue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from diptych.pipelines.dual_front import DualEncoder

_KINDS = (".npy", ".safetensors")


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="*", metavar="FILE", help="PNG, JPEG, WebP or GIF")
    parser.add_argument("--text", action="append", default=[], help="a text to embed; repeatable")
    parser.add_argument(
        "-o", "--out", required=True, metavar="FILE", help="what to write: .npy or .safetensors"
    )
    add_model_arguments(parser, "scenes-clip", as_json=False)


def run(args: Namespace) -> int:
    from diptych.pipelines.dual_front import DualEncoder

    out = Path(args.out)
    _check(out, args.pictures, args.text)
    encoder = DualEncoder.load(
        args.model, device=args.device, dtype=args.dtype, offline=args.offline
    )
    made: dict[str, NDArray[np.float32]] = {}
    if args.text:
        made["texts"] = encoder.embed_texts(args.text)
    if args.pictures:
        made["pictures"] = _pictures(encoder, args.pictures)
    _write(out, made, {"files": args.pictures, "texts": args.text, "model": args.model})
    said = " and ".join(f"{len(vectors)} {name}" for name, vectors in sorted(made.items()))
    print(f"{out}: {said}, {encoder.width} numbers each")
    return 0


def _check(out: Path, pictures: list[str], texts: list[str]) -> None:
    if out.suffix not in _KINDS:
        raise InvalidValue(f"{str(out)!r} is of no kind that is written.", do=" or ".join(_KINDS))
    if not pictures and not texts:
        raise InvalidValue("There is nothing to embed.", do="Name pictures, or give --text.")
    if pictures and texts and out.suffix == ".npy":
        raise InvalidValue(
            "A .npy file holds one matrix, and there are pictures and texts.",
            do="Write .safetensors, or two files.",
        )


def _pictures(encoder: DualEncoder, names: list[str]) -> NDArray[np.float32]:
    import numpy as np

    from diptych.cli.console import drawing
    from diptych.foundation.progress import Progress

    made = []
    with drawing("embed", "picture") as report:
        for at in range(0, len(names), MANY):
            made.append(encoder.embed_pictures(names[at : at + MANY]))
            report(Progress(min(at + MANY, len(names)), len(names)))
    return np.concatenate(made)


def _write(out: Path, made: dict[str, NDArray[np.float32]], said: dict[str, object]) -> None:
    import numpy as np

    from diptych.foundation.files import write_with

    if out.suffix == ".npy":
        (vectors,) = made.values()

        def save(part: Path) -> None:
            with part.open("wb") as file:  # by name, numpy would put its own ending there
                np.save(file, vectors)

        write_with(out, save)
        return
    import torch

    from diptych.checkpoints.folder import save_tensors

    tensors = {name: torch.from_numpy(vectors) for name, vectors in made.items()}
    save_tensors(out, tensors, {name: json.dumps(value) for name, value in said.items()})
