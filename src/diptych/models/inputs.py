"""What a family makes of a picture, whichever family: its plan and its tiles' numbers."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from diptych.imaging.pictures import upright_rgb
from diptych.imaging.pixels import Preprocess, merged_patches, opened, tiles_of
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


@dataclass(frozen=True, kw_only=True)
class PictureInputs:
    """All that decides what a network is shown of a picture. Through JSON it comes back the same
    (`foundation.config`), so it can be stored with results."""

    spec: Spec
    pixels: Preprocess


def plan_of(height: int, width: int, spec: Spec) -> TokenPlan:
    """The plan of a picture of that size. Raises InvalidValue as the planner says."""
    return PLANNERS[type(spec)](height, width, spec)


def shown(
    picture: Image.Image | str | os.PathLike[str] | bytes, inputs: PictureInputs
) -> tuple[TokenPlan, Tensor]:
    """A picture, a file or its bytes -> the plan, and [tiles, 3, H, W] float32, or with a
    `NativeSpec` [patches, 3 * copies * patch * patch], as the tower takes them.

    Turned as EXIF says, transparency over white. Raises what `opened` raises.
    """
    if isinstance(picture, Image.Image):
        whole = upright_rgb(picture)
        plan = plan_of(whole.height, whole.width, inputs.spec)
    else:
        whole, plan = opened(picture, partial(plan_of, spec=inputs.spec), inputs.pixels)
    numbers = tiles_of(whole, plan, inputs.pixels)
    if isinstance(inputs.spec, NativeSpec):
        spec = inputs.spec
        numbers = merged_patches(numbers[0], spec.patch, spec.merge, spec.copies)
    return plan, torch.as_tensor(numbers)
