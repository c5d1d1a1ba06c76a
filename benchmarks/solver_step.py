"""What a step costs outside the network, beside the schedulers of diffusers.

    python -m benchmarks.solver_step

One thread, CPU time, both in one process and in turn. `ours`: a step with the coefficients of its
table, which are made ready once; `mixed`: with those of each row gathered for this step, as a
batch of strangers needs them. The ratio is diffusers' time over ours, the median of the rounds
with the lowest and the highest.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import process_time_ns

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from diptych.diffusion.kernel import Table, begin, coefficients, step
from diptych.diffusion.paths import FlowPath, scaled_linear_betas, vp_of_betas
from diptych.diffusion.solvers import table_of
from diptych.diffusion.spacings import nodes_of
from diptych.foundation.memory import keep_freed_memory

STEPS = 20
ROUNDS = 15
SHAPES = {"1x4x64x64": ((1, 4, 64, 64), 8), "8x16x128x128": ((8, 16, 128, 128), 1)}
VP = vp_of_betas(scaled_linear_betas())
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


@dataclass(frozen=True)
class Case:
    """`peer` makes their scheduler, `table` ours; `floors`: the ratio held to, small and large."""

    peer: Callable[[], object]
    table: Callable[[], Table]
    floors: tuple[float, float]


def ours(name: str) -> Callable[[], Table]:
    return lambda: table_of(name, VP, nodes_of("trailing", VP, STEPS), "eps")


CASES: dict[str, Case] = {
    "DDIM": Case(lambda: DDIMScheduler(clip_sample=False, **SD), ours("euler"), (9, 3.5)),
    "DPM-Solver++ 2M": Case(
        lambda: DPMSolverMultistepScheduler(**SD), ours("dpmpp-2m"), (9, 2.2)
    ),
    "UniPC": Case(lambda: UniPCMultistepScheduler(**SD), ours("unipc"), (15, 4)),
    "flow Euler": Case(
        lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
        lambda: table_of(
            "euler", FlowPath(), nodes_of("trailing", FlowPath(), STEPS, shift=3.0), "velocity"
        ),
        (1.7, 1.0),
    ),
}  # fmt: skip


def of_peer(case: Case, x: torch.Tensor, out: torch.Tensor) -> Callable[[], None]:
    def run() -> None:
        sample = x
        for t in scheduler.timesteps:
            sample = scheduler.step(out, t, sample, return_dict=False)[0]

    def prepared() -> None:
        scheduler.set_timesteps(STEPS)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)

    scheduler = case.peer()
    return timed(run, prepared)


def of_table(table: Table, x: torch.Tensor, out: torch.Tensor) -> Callable[[], float]:
    by = table.coefficients(x)

    def run() -> None:
        state = begin(x)
        for one in by:
            state = step(state, out, one)

    return timed(run)


def mixed(table: Table, x: torch.Tensor, out: torch.Tensor) -> Callable[[], float]:
    def run() -> None:
        state = begin(x)
        for row in table.rows:
            state = step(state, out, coefficients(np.stack([row] * len(x)), x))

    return timed(run)


def timed(run: Callable[[], None], prepared: Callable[[], None] = lambda: None):
    """A function that runs it once and says the microseconds of CPU a step."""

    def measure() -> float:
        prepared()
        start = process_time_ns()
        run()
        return (process_time_ns() - start) / STEPS / 1000

    return measure


def main() -> int:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    keep_freed_memory()
    print(f"{'latent':14}{'solver':17}{'diffusers':>10}{'mixed':>8}{'ours':>8} us/step   ratio"
          "   (low to high)   floor")  # fmt: skip
    below = 0
    for size, (label, (shape, often)) in enumerate(SHAPES.items()):
        x, out = torch.randn(shape), torch.randn(shape)
        for name, case in CASES.items():
            table = case.table()
            runs = [of_peer(case, x, out), mixed(table, x, out), of_table(table, x, out)]
            gc.disable()
            for run in runs:
                run()
            rounds = [[min(run() for _ in range(often)) for run in runs] for _ in range(ROUNDS)]
            gc.enable()
            peer, gathered, mine = (median(column) for column in zip(*rounds, strict=True))
            ratios = sorted(theirs / our for theirs, _, our in rounds)
            ratio, floor = median(ratios), case.floors[size]
            below += ratio < floor
            print(f"{label:14}{name:17}{peer:10.1f}{gathered:8.1f}{mine:8.1f}{ratio:16.1f}"
                  f"   ({ratios[0]:.1f} to {ratios[-1]:.1f}){floor:12g}"
                  f"{'  BELOW' if ratio < floor else ''}")  # fmt: skip
    return int(below > 0)


if __name__ == "__main__":
    raise SystemExit(main())
