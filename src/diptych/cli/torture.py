"""Begin a server over an empty folder, load it, kill, freeze and starve it, and judge what it kept.

diptych torture
diptych torture --jobs 200 --faults 30 --seed 7
diptych torture --data /mnt/disk/empty
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diptych.foundation.errors import InvalidValue
from diptych.foundation.extras import need

if TYPE_CHECKING:
    from diptych.service.torture.run import Outcome

MOST_JOBS = 10_000
_NAMED = 3  # cases of a broken promise that are shown


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=60, help="how many are asked for (60)")
    parser.add_argument("--faults", type=int, default=8, help="how often it is hurt (8)")
    parser.add_argument("--seed", type=int, default=0, help="of load, faults and moments (0)")
    parser.add_argument(
        "--data", metavar="DIR", help="an empty folder, which is kept (a temporary one)"
    )


def run(args: Namespace) -> int:
    need("starlette", "serve")
    import sys
    from contextlib import ExitStack
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from diptych.cli.console import drawing
    from diptych.service.torture.run import torture

    if not sys.platform.startswith("linux"):
        raise InvalidValue("`diptych torture` needs Linux.", do="Run it in a container.")
    if not 1 <= args.jobs <= MOST_JOBS or not 0 <= args.faults <= args.jobs:
        raise InvalidValue(
            f"--jobs {args.jobs} --faults {args.faults} cannot be.",
            do=f"1 to {MOST_JOBS} jobs, and no more faults than jobs.",
        )
    with ExitStack() as stack:
        folder = args.data or stack.enter_context(TemporaryDirectory(prefix="diptych-torture-"))
        report = stack.enter_context(drawing("torture", "job"))
        outcome = torture(
            Path(folder) / "data" if args.data is None else Path(folder), alone,
            seed=args.seed, jobs=args.jobs, faults=args.faults, report=report,
        )  # fmt: skip
    print(table(outcome))
    return 0 if outcome.passed else 1


def table(outcome: Outcome) -> str:
    """What was done, and each promise with the number of cases looked at."""
    wide = max(len(one.promise) for one in outcome.verdicts)
    done = ", ".join(f"{name} {times}x" for name, times in sorted(outcome.faults.items()))
    lines = [
        f"Faults: {done or 'none'}.",
        f"{outcome.refused} answers asked to come again; {outcome.seconds:.0f} s in all.",
        "",
        f"{'promise':<{wide}}  {'cases':>6}  broken",
    ]
    for one in outcome.verdicts:
        lines.append(f"{one.promise:<{wide}}  {one.cases:>6}  {len(one.broken) or '-':>6}")
        lines += [f"    {what}" for what in one.broken[:_NAMED]]
    lines += [f"answer: {what}" for what in outcome.wrong[:_NAMED]]
    ok = "Nothing was lost, doubled or altered." if outcome.passed else "BROKEN: see above."
    return "\n".join([*lines, "", ok])


def alone(bodies: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each request painted by itself in a process of its own; the SHA-256 of its file."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_painted, (list(bodies),))


def _painted(bodies: Sequence[Mapping[str, Any]]) -> list[str]:
    import hashlib

    import torch

    from diptych.imaging.recipe import png_bytes
    from diptych.pipelines.painter_front import TextToImage

    torch.set_num_threads(1)
    model = TextToImage.load("scenes-t2i")
    shas: list[str] = []
    for body in bodies:
        picture = model(body["prompt"], seed=body["seed"], steps=body["num_inference_steps"])
        png = png_bytes(picture, picture.info["recipe"])  # pyright: ignore
        shas.append(hashlib.sha256(png).hexdigest())
    return shas
