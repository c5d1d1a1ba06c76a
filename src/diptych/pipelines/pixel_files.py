"""DDPM and ADM from a published folder, or from a file of weights beside its config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from diptych.checkpoints.account import LoadReport
from diptych.checkpoints.families.scheduler import preset_of
from diptych.checkpoints.folder import read_json
from diptych.checkpoints.load import Found, load
from diptych.checkpoints.presets import PRESETS, Preset
from diptych.foundation.errors import Unreadable
from diptych.foundation.progress import Report, silent
from diptych.models.unet_adm import UNetADM
from diptych.pipelines.labelled import labels_of
from diptych.pipelines.painting import Painting
from diptych.pipelines.pixel_networks import PixelNetworks
from diptych.pipelines.sampling import Sampling

PIXEL_FAMILIES = ("ddpm", "adm")
# Of what a scheduler says of the noise that each step adds: the solver that adds as much. A
# learned variance is left out, and no noise is added then (Dhariwal and Nichol, 2021, section 4.4).
_VARIANCES = {
    "fixed_small": "ddpm",
    "fixed_small_log": "ddpm",
    "fixed_large": "ddpm-large",
    "learned": "ddim",
    "learned_range": "ddim",
}


def read_pixels(
    path: Path, found: Mapping[str, Found], dtype: torch.dtype, report: Report = silent
) -> tuple[Painting, Sampling, tuple[LoadReport, ...]]:
    """What paints, its recommended sampling, and the account of the U-Net, which has been checked.
    Raises NotFound or Unreadable; all small files are read before any tensor is."""
    one = found["unet"]
    said = small_file(path, "scheduler", "scheduler_config.json")
    preset = PRESETS[one.report.family]
    preset = pixel_preset_of(preset, said) if said else preset
    content = small_file(path, "unet", "config.json")
    labels = labels_of(small_file(path, "", "model_index.json"))
    unet = cast(UNetADM, load(one, dtype, report))
    # Both were published with predicted pictures cut to the range of pixels.
    cut = float(said.get("clip_sample_range", 1.0)) if said.get("clip_sample", True) else 0.0
    networks = PixelNetworks(unet, labels, preset, _size(content), cut)
    sampling = Sampling(
        steps=preset.steps,
        guidance=1.0,
        shift=None,
        solver=preset.solver,
        spacing=str(preset.spacing),
    )
    assumed = dict(one.report.assumed)
    if unet.config.out_channels != unet.config.in_channels:
        assumed["variance"] = "left out: DDIM adds no noise"
    return networks, sampling, (replace(one.report, assumed=assumed),)


def pixel_preset_of(preset: Preset, said: Mapping[str, Any]) -> Preset:
    """The family's as the folder's scheduler has it. Raises Unreadable for what is not built here,
    by name."""
    kind = said.get("_class_name", "DDPMScheduler")
    if kind not in ("DDPMScheduler", "DDIMScheduler"):
        raise Unreadable(
            f"A U-Net of pixels whose steps are a {kind}'s is not painted with here.",
            do="DDPMScheduler and DDIMScheduler are.",
        )
    if said.get("thresholding"):
        raise Unreadable("A scheduler_config.json with thresholding is not built here.")
    variance = said.get("variance_type", "fixed_small")
    if kind == "DDPMScheduler" and variance not in _VARIANCES:
        raise Unreadable(f"A variance_type of {variance!r} is not built here.")
    made = preset_of(preset, said)
    options = dict(made.spacing_options)
    if made.spacing == "leading":
        options["offset"] = said.get("steps_offset", 0)
    if kind == "DDIMScheduler" and not said.get("set_alpha_to_one", True):
        options["ends"] = "trained"
    solver = "ddim" if kind == "DDIMScheduler" else _VARIANCES[variance]
    return replace(made, solver=solver, spacing_options=options)


def beside(path: Path) -> Mapping[str, Any] | None:
    """The config.json beside a file of weights of these families: no shape tells it all."""
    content = small_file(path, "", "config.json") if path.is_file() else {}
    return content if content.get("_class_name") == "UNet2DModel" else None


def small_file(path: Path, folder: str, name: str) -> Mapping[str, Any]:
    """A folder's small file, of its component's folder or of itself as the oldest were published,
    or beside a file of weights; nothing where it is not there. Raises Unreadable."""
    root = path if path.is_dir() else path.parent
    places = [root / folder / name, root / name, root.parent / folder / name]
    for place in places if path.is_file() else places[:2]:
        if place.is_file():
            return read_json(place)
    return {}


def _size(content: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height. Raises Unreadable."""
    side = content.get("sample_size")
    sides = [side, side] if isinstance(side, int) else side
    if not isinstance(sides, list) or len(sides) != 2:
        raise Unreadable(f"A sample_size of {side!r} tells no size of pictures.")
    return int(sides[1]), int(sides[0])
