"""Eight strangers' requests at once beside diffusers: other steps, guidance, seeds, solvers, LoRAs.

    python -m benchmarks.t2i_concurrent

One thread, CPU time. `serial`: their pipeline called once for each request; `engine`: all eight
together, its ratio to that, the median of the rounds with the lowest and the highest, and how many
of its pictures are what each request gives alone. `threads`: their pipeline asked by eight threads
at once, and how many of those pictures are right. Ends with 1 where a ratio is missed or a picture
is wrong.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import process_time_ns
from typing import Any

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
)
from diffusers.utils import logging
from safetensors.torch import save_file

from benchmarks.t2i_models import DDIM, SD, SIZES, peer
from diptych.engine.painting import PaintingEngine
from diptych.foundation.memory import keep_freed_memory
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.painting import Extras, Request

# size, cells a side, steps are divided by, rounds, the ratio held to
CASES = [
    ("tiny", 8, 1, 3, 0.40),
    ("tiny", 16, 1, 3, 0.40),
    ("90M", 16, 4, 2, 0.65),
    ("90M", 32, 8, 2, 0.95),
]
SCHEDULERS: dict[str, Callable[[], Any]] = {
    "ddim": lambda: DDIMScheduler(**DDIM),
    "euler": lambda: EulerDiscreteScheduler(**SD, steps_offset=1, timestep_spacing="leading"),
    "dpmpp-2m": lambda: DPMSolverMultistepScheduler(**SD),
}


@dataclass(frozen=True)
class Stranger:
    """`lora` names one of two, or none."""

    prompt: str
    seed: int
    steps: int
    guidance: float
    solver: str
    lora: str = ""


STRANGERS = [
    Stranger("a photo of a cat", 1, 50, 7.5, "ddim"),
    Stranger("a house by the sea", 2, 20, 5.0, "euler"),
    Stranger("two dogs", 3, 8, 1.0, "dpmpp-2m"),
    Stranger("a tree in winter", 4, 30, 9.0, "dpmpp-2m", "a"),
    Stranger("a red car", 5, 4, 1.0, "euler"),
    Stranger("a portrait", 6, 25, 4.0, "ddim", "b"),
    Stranger("mountains at dawn", 7, 12, 7.5, "euler"),
    Stranger("a bowl of fruit", 8, 40, 3.0, "dpmpp-2m", "a"),
]


def write_loras(theirs: StableDiffusionPipeline, folder: Path) -> dict[str, Path]:
    """Two of rank 4 on all attentions, in PEFT's names."""
    paths: dict[str, Path] = {}
    for number, name in enumerate("ab"):
        draw, tensors = torch.Generator().manual_seed(number), {}
        for path, module in theirs.unet.named_modules():
            if path.endswith(("to_q", "to_k", "to_v", "to_out.0")):
                out, into = module.weight.shape
                down = torch.randn(4, into, generator=draw) * into**-0.5
                up = torch.randn(out, 4, generator=draw) * 0.1
                tensors[f"unet.{path}.lora_A.weight"] = down
                tensors[f"unet.{path}.lora_B.weight"] = up
        paths[name] = folder / f"{name}.safetensors"
        save_file(tensors, paths[name])
    return paths


def call(theirs: StableDiffusionPipeline, one: Stranger, side: int, steps: int) -> Any:
    """One request to their pipeline, as a program that serves strangers has to make it."""
    theirs.scheduler = SCHEDULERS[one.solver]()
    if one.lora:
        theirs.enable_lora()
        theirs.set_adapters([one.lora])
    else:
        theirs.disable_lora()
    return theirs(
        one.prompt, num_inference_steps=steps, guidance_scale=one.guidance, width=side,
        height=side, output_type="np", generator=torch.Generator().manual_seed(one.seed),
    ).images[0]  # fmt: skip


def case(name: str, cells: int, divide: int, rounds: int, floor: float) -> bool:
    """A line; whether the ratio is held and all pictures are right."""
    side, theirs = 2 * cells, peer(SIZES[name])
    steps = [max(2, one.steps // divide) for one in STRANGERS]
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        loras = write_loras(theirs, Path(folder))
        ours = TextToImage.load(folder)
        ours.pack()
        for key, path in loras.items():
            ours.add(path, key)
            theirs.load_lora_weights(str(path), adapter_name=key)
    requests = [
        request(ours, one, side, count) for one, count in zip(STRANGERS, steps, strict=True)
    ]
    took: dict[str, list[float]] = {"serial": [], "engine": []}
    made: list[Any] = []
    for _ in range(rounds):
        start = process_time_ns()
        serial = [call(theirs, *both) for both in zip(STRANGERS, [side] * 8, steps, strict=True)]
        took["serial"].append((process_time_ns() - start) / 1e9)
        start = process_time_ns()
        made = together(ours, requests)
        took["engine"].append((process_time_ns() - start) / 1e9)
    alone = [together(ours, [one])[0] for one in requests]
    right = sum(int(abs(a.astype(int) - b).max() <= 1) for a, b in zip(made, alone, strict=True))
    wrong, errors = in_threads(theirs, serial, side, steps)
    ratios = [a / b for a, b in zip(took["engine"], took["serial"], strict=True)]
    print(
        f"{name:<6}{cells:>4}  serial {median(took['serial']):6.1f} s  engine {median(ratios):.2f} "
        f"({min(ratios):.2f}..{max(ratios):.2f}), {right} of 8 right  held to {floor:.2f}: "
        f"{'yes' if median(ratios) <= floor else 'no'}   their threads: {8 - wrong - errors} of 8 "
        f"right, {errors} errors",
        flush=True,
    )
    return median(ratios) <= floor and right == 8


def request(ours: TextToImage, one: Stranger, side: int, steps: int) -> Request:
    """The same to our engine."""
    each = ours.adapters.of_each(ours.networks, [(one.lora, 1.0)] if one.lora else (), 1)
    return Request(
        prompts=[one.prompt], seeds=[one.seed], size=(side, side),
        sampling=ours.chosen(steps=steps, guidance=one.guidance, solver=one.solver),
        extras=Extras(loras=ours.adapters.weighted(each)),
    )  # fmt: skip


def together(ours: TextToImage, requests: list[Request]) -> list[Any]:
    """All at once, as fast as it goes."""
    engine = PaintingEngine(ours.networks, exact=False, most=16)
    jobs = [engine.submit(one) for one in requests]
    engine.run()
    return [job.result()[0] for job in jobs]


def in_threads(
    theirs: StableDiffusionPipeline, wanted: list[Any], side: int, steps: list[int]
) -> tuple[int, int]:
    """How many pictures are wrong, and how many calls fail."""

    def ask(i: int) -> Any:
        try:
            return call(theirs, STRANGERS[i], side, steps[i])
        except Exception:  # whatever it fails of: the failures are what is counted
            return None

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    errors = sum(one is None for one in found)
    apart = [np.abs(a - b).max() for a, b in zip(found, wanted, strict=True) if a is not None]
    return sum(int(value > 1e-3) for value in apart), errors


def main() -> int:
    warnings.filterwarnings("ignore")
    logging.set_verbosity(logging.CRITICAL)
    torch.set_num_threads(1)
    keep_freed_memory()
    missed = [not case(*one) for one in CASES]
    return 1 if any(missed) else 0


if __name__ == "__main__":
    sys.exit(main())
