"""What one picture costs beside diffusers: the same folder, words, seed, steps and guidance.

    python -m benchmarks.t2i_single [--full]

One thread, CPU time of whole calls (words, steps, decoding), both in one process and in turn; the
ratio is ours over theirs, the median of the rounds with the lowest and the highest. `packed`: with
convolution weights in the order that the kernels want; `bf16`, labelled: another type, other
pictures. `--full` adds the size of Stable Diffusion 1.5. Ends with 1 where a ratio is missed.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from statistics import median
from time import process_time_ns

import numpy as np
import torch

from benchmarks.t2i_models import SIZES, peer
from diptych.foundation.memory import keep_freed_memory
from diptych.pipelines.painter_front import TextToImage

WORDS = {"prompt": "a photo of a cat on a mat", "negative_prompt": "blurry, dark"}
# size, cells a side, steps, rounds, the ratio held to
CASES = [
    ("tiny", 8, 20, 7, 0.60),
    ("tiny", 16, 20, 5, 0.60),
    ("90M", 16, 8, 5, 0.95),
    ("90M", 32, 4, 3, 0.95),
]
FULL = [("SD1.5", 32, 2, 3, 1.0), ("SD1.5", 64, 2, 2, 1.0)]


def timed(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of CPU of each, in turn."""
    for run in runs.values():
        run()
    took: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = process_time_ns()
            run()
            took[name].append((process_time_ns() - start) / 1e6)
    return took


def main() -> int:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    keep_freed_memory()
    missed = 0
    print(f"{'size':<7}{'cells':>6}{'steps':>6}{'theirs ms':>11}  ours / theirs (lowest..highest)")
    for name, cells, steps, rounds, floor in CASES + (FULL if "--full" in sys.argv else []):
        missed += not case(name, cells, steps, rounds, floor)
    return 1 if missed else 0


def case(name: str, cells: int, steps: int, rounds: int, floor: float) -> bool:
    """A line; whether the best of ours in the same type holds the ratio."""
    theirs = peer(SIZES[name])
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        plain = TextToImage.load(folder)
        packed = TextToImage.load(folder)
        packed.pack()
        half = TextToImage.load(folder, dtype="bfloat16")
    side = cells * 2
    asked = {"width": side, "height": side}

    def of_peer() -> object:
        generator = torch.Generator().manual_seed(5)
        return theirs(
            **WORDS, **asked, num_inference_steps=steps, guidance_scale=7.5, output_type="np",
            generator=generator,
        ).images[0]  # fmt: skip

    def ours(model: TextToImage) -> Callable[[], object]:
        return lambda: model(**WORDS, **asked, seed=5, steps=steps, guidance=7.5, solver="ddim")

    runs = {"theirs": of_peer, "plain": ours(plain), "packed": ours(packed), "bf16": ours(half)}
    took = timed(runs, rounds)
    wanted = np.asarray(of_peer())
    for model in ("plain", "packed"):
        apart = np.abs(np.asarray(runs[model]()) / 255 - wanted).max()
        assert apart < 1 / 255 + 1e-3, f"{model} paints another picture: {apart}"
    line = f"{name:<7}{cells:>6}{steps:>6}{median(took['theirs']):>11.0f}"
    best = 9.0
    for model in ("plain", "packed", "bf16"):
        ratios = [a / b for a, b in zip(took[model], took["theirs"], strict=True)]
        line += f"  {model} {median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"
        best = best if model == "bf16" else min(best, median(ratios))
    print(f"{line}  held to {floor:.2f}: {'yes' if best <= floor else 'no'}", flush=True)
    return best <= floor


if __name__ == "__main__":
    sys.exit(main())
