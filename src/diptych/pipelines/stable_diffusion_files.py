"""Stable Diffusion from a published folder or a single file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from diptych.checkpoints.account import LoadReport
from diptych.checkpoints.families.scheduler import preset_of
from diptych.checkpoints.folder import read_json
from diptych.checkpoints.load import Found, found_in, load
from diptych.checkpoints.presets import PRESETS, Preset
from diptych.foundation.errors import Unreadable
from diptych.foundation.progress import Report, silent
from diptych.models.autoencoder_sd import AutoencoderSD
from diptych.models.clip_text import CLIPText
from diptych.models.unet import UNet
from diptych.pipelines.conditioning import TEXT_RECIPES, ClipEncoder
from diptych.pipelines.stable_diffusion import StableDiffusionNetworks
from diptych.pipelines.text_to_image import Sampling
from diptych.text.clip_bpe import ClipTokenizer

# The family by its words -> the encoder that reads them, and its preset. Others have two.
_READ_BY = {"sd1": "clip_l", "sd2": "clip_h"}
_PRESETS = {"sd1": "sd1", "sd2": "sd2-base"}
_NEEDED = ("unet", "vae", "text_encoder")
# Latent cells a side where no file says it: 512 pixels.
_SIDE = 64


def is_stable_diffusion(path: Path) -> bool:
    """Whether this is a published folder or a weight file, and not a folder of ours."""
    return path.is_file() or (path / "model_index.json").is_file()


def read_stable_diffusion(
    path: Path,
    dtype: torch.dtype,
    *,
    variant: str = "",
    allow: Sequence[str] = (),
    report: Report = silent,
) -> tuple[StableDiffusionNetworks, Sampling, tuple[LoadReport, ...]]:
    """The networks, the recommended sampling, and the account of every component.

    Raises NotFound or Unreadable; every file is accounted for before any tensor is read.
    """
    found = {one.part.component: one for one in found_in(path, variant=variant, allow=allow)}
    lacking = [name for name in _NEEDED if name not in found]
    if lacking:
        raise Unreadable(
            f"{str(path)!r} holds {', '.join(found)} and no {lacking[0]}.",
            do="Name the folder or file of the whole model.",
        )
    family = found["unet"].report.family
    if family not in _READ_BY:
        raise Unreadable(
            f"{family} is not painted with here yet.", do="docs/checkpoints.md lists what is."
        )
    for one in found.values():
        one.report.check()
    tokenizer = _tokenizer(path, family)
    preset, side = _preset(path, family), _side(path)
    unet = cast(UNet, load(found["unet"], dtype, report))
    vae = cast(AutoencoderSD, load(found["vae"], dtype, report))
    encoder = cast(CLIPText, load(_ending_in(found["text_encoder"], tokenizer.end), dtype, report))
    size = side * vae.factor
    networks = StableDiffusionNetworks(
        unet, vae, {_READ_BY[family]: ClipEncoder(encoder, tokenizer)},
        TEXT_RECIPES[family], preset, (size, size),
    )  # fmt: skip
    sampling = Sampling(
        steps=preset.steps,
        guidance=preset.guidance,
        shift=None,
        solver=preset.solver,
        spacing=str(preset.spacing),
    )
    return networks, sampling, tuple(one.report for one in found.values())


def _tokenizer(path: Path, family: str) -> ClipTokenizer:
    if (path / "tokenizer").is_dir():
        return ClipTokenizer.load(path / "tokenizer")
    return ClipTokenizer.published(**{} if family == "sd1" else {"pad": "!"})


def _preset(path: Path, family: str) -> Preset:
    described, preset = path / "scheduler" / "scheduler_config.json", PRESETS[_PRESETS[family]]
    return preset_of(preset, read_json(described)) if described.is_file() else preset


def _side(path: Path) -> int:
    described = path / "unet" / "config.json"
    side = read_json(described).get("sample_size") if described.is_file() else None
    return side if isinstance(side, int) else _SIDE


def _ending_in(found: Found, end: int) -> Found:
    """The text encoder told by which number its tokenizer ends a text: no file of weights says."""
    network = cast(CLIPText, found.network)
    network.config = replace(network.config, eos=end)
    return found
