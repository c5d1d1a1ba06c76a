"""Rates and decays as pure functions of the step: nothing to save, nothing to restore."""

from __future__ import annotations

from math import cos, pi


def rate_factor(step: int, *, steps: int, warmup: int, final_fraction: float) -> float:
    """The factor on the learning rate for step 0..steps-1: linear up, then a cosine down.

    The first step has 1 / (warmup + 1), step `warmup` has 1, the last has `final_fraction`.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(steps - 1 - warmup, 1)
    return final_fraction + (1 - final_fraction) * (1 + cos(pi * min(progress, 1.0))) / 2


def average_decay(step: int, decay: float) -> float:
    """The decay of the averaged weights after `step` steps were made: ramps up to `decay`.

    Without the ramp the average would hold the random start for 1 / (1 - decay) steps.
    """
    return min(decay, (1 + step) / (10 + step))
