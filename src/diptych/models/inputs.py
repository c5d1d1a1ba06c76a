"""What a family makes of a picture, whichever family: the planner of each spec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diptych.imaging.plan import TokenPlan
from diptych.models.internvl.inputs import TilesSpec, tiles
from diptych.models.llava.inputs import AnyresSpec, FixedSpec, anyres, fixed
from diptych.models.qwen_vl.inputs import NativeSpec, native
from diptych.models.smolvlm.inputs import SplitSpec, split_grid

Spec = FixedSpec | AnyresSpec | TilesSpec | SplitSpec | NativeSpec
PLANNERS: dict[type[Spec], Callable[[int, int, Any], TokenPlan]] = {
    FixedSpec: fixed,
    AnyresSpec: anyres,
    TilesSpec: tiles,
    SplitSpec: split_grid,
    NativeSpec: native,
}


def plan_of(height: int, width: int, spec: Spec) -> TokenPlan:
    """The plan of a picture of that size. Raises InvalidValue as the planner says."""
    return PLANNERS[type(spec)](height, width, spec)
