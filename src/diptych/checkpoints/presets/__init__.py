"""How families of models are sampled: path, prediction, list of times, solver, steps, guidance.

`preset` says what a preset is. `stable` has Stable Diffusion and its relatives, `schedules` others
that were trained over a noise schedule, `flows` those of rectified flow.
"""

from __future__ import annotations

from diptych.checkpoints.presets.flows import FLOWS
from diptych.checkpoints.presets.preset import Preset
from diptych.checkpoints.presets.schedules import SCHEDULES
from diptych.checkpoints.presets.stable import STABLE
from diptych.foundation.errors import unknown

PRESETS: dict[str, Preset] = {**STABLE, **SCHEDULES, **FLOWS}


def for_family(name: str) -> Preset:
    """The preset of a family. Raises NotFound for an unknown name, with the nearest right one."""
    if name not in PRESETS:
        raise unknown("model family", name, PRESETS)
    return PRESETS[name]
