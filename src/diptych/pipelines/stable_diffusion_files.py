"""Stable Diffusion from a published folder or a single file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from diptych.checkpoints.account import LoadReport
from diptych.checkpoints.families.scheduler import PREDICTIONS, V_MARK, preset_by_marks, preset_of
from diptych.checkpoints.folder import read_json
from diptych.checkpoints.header import header_of
from diptych.checkpoints.load import Found, load
from diptych.checkpoints.presets import PRESETS, Preset
from diptych.foundation.errors import Unreadable
from diptych.foundation.progress import Report, silent
from diptych.models.autoencoder_sd import AutoencoderSD
from diptych.models.clip_text import CLIPText
from diptych.models.unet import UNet
from diptych.pipelines.conditioning import TEXT_RECIPES, ClipEncoder, TextRecipe
from diptych.pipelines.sampling import Sampling
from diptych.pipelines.stable_diffusion import StableDiffusionNetworks
from diptych.text.clip_bpe import END, ClipTokenizer


@dataclass(frozen=True)
class Words:
    """A text encoder's component, its tokenizer's folder, and what pads where there is none."""

    component: str
    tokenizer: str
    pad: str = END


@dataclass(frozen=True)
class Family:
    """How a family's files differ. `encoders`: by the names that its text recipe has for them;
    `presets`: by what the network predicts; `side`: of the latent, where no file says it."""

    encoders: Mapping[str, Words]
    presets: Mapping[str, str]
    side: int


_FIRST = Words("text_encoder", "tokenizer")
# Each has a text recipe of its name.
FAMILIES: dict[str, Family] = {
    "sd1": Family({"clip_l": _FIRST}, {"eps": "sd1", "v": "sd1"}, 64),
    "sd2": Family(
        {"clip_h": replace(_FIRST, pad="!")}, {"eps": "sd2-base", "v": "sd2-v"}, 64
    ),
    "sdxl": Family(
        {"clip_l": _FIRST, "clip_g": Words("text_encoder_2", "tokenizer_2", "!")},
        {"eps": "sdxl", "v": "sdxl"},
        128,
    ),
    "sdxl-refiner": Family(
        {"clip_g": Words("text_encoder_2", "tokenizer_2", "!")},
        {"eps": "sdxl-refiner", "v": "sdxl-refiner"},
        128,
    ),
}  # fmt: skip


def read_stable_diffusion(
    path: Path, found: Mapping[str, Found], dtype: torch.dtype, report: Report = silent
) -> tuple[StableDiffusionNetworks, Sampling, tuple[LoadReport, ...]]:
    """The networks, the recommended sampling, and the account of every component, which is right.

    Raises NotFound or Unreadable; all small files are read before any tensor is.
    """
    name = found["unet"].report.family
    family = FAMILIES[name]
    need(path, found, "vae", *(words.component for words in family.encoders.values()))
    preset, recipe = _preset(path, family), _recipe(path, name)
    tokenizers = {words: clip_tokenizer(path, said) for words, said in family.encoders.items()}
    unet = cast(UNet, load(found["unet"], dtype, report))
    vae = cast(AutoencoderSD, load(found["vae"], dtype, report))
    encoders = {
        words: clip_encoder(found[said.component], tokenizers[words], dtype, report)
        for words, said in family.encoders.items()
    }
    side = said_by(path, "unet/config.json").get("sample_size")
    size = (side if isinstance(side, int) else family.side) * vae.factor
    networks = StableDiffusionNetworks(unet, vae, encoders, recipe, preset, (size, size))
    sampling = Sampling(
        steps=preset.steps,
        guidance=preset.guidance,
        shift=None,
        solver=preset.solver,
        spacing=str(preset.spacing),
    )
    return networks, sampling, tuple(one.report for one in found.values())


def need(path: Path, found: Mapping[str, Found], *components: str) -> None:
    """Raises Unreadable for parts of a model."""
    for component in components:
        if component not in found:
            raise Unreadable(
                f"{str(path)!r} holds {', '.join(found)} and no {component}.",
                do="Name the folder or file of the whole model.",
            )


def said_by(path: Path, name: str) -> Mapping[str, Any]:
    """A folder's small file, or nothing where it is not there."""
    return read_json(path / name) if (path / name).is_file() else {}


def clip_tokenizer(path: Path, words: Words) -> ClipTokenizer:
    """From the model's folder, or CLIP's own for a file of weights. Raises Unreadable."""
    if (path / words.tokenizer).is_dir():
        return ClipTokenizer.load(path / words.tokenizer)
    return ClipTokenizer.published(pad=words.pad)


def _preset(path: Path, family: Family) -> Preset:
    if path.is_file():
        names = header_of(path).keys()
        return preset_by_marks(PRESETS[family.presets["v" if V_MARK in names else "eps"]], names)
    said = said_by(path, "scheduler/scheduler_config.json")
    prediction = PREDICTIONS.get(said.get("prediction_type", "epsilon"), "")
    preset = PRESETS[family.presets.get(prediction, family.presets["eps"])]
    return preset_of(preset, said) if said else preset


def _recipe(path: Path, name: str) -> TextRecipe:
    """The family's; whether nothing said against a picture means zeros is the folder's to say."""
    recipe = TEXT_RECIPES[name]
    zeros = said_by(path, "model_index.json").get("force_zeros_for_empty_prompt")
    return recipe if zeros is None else replace(recipe, zeros=bool(zeros))


def clip_encoder(
    found: Found, tokenizer: ClipTokenizer, dtype: torch.dtype, report: Report
) -> ClipEncoder:
    """The text encoder told by which number its tokenizer ends a text: no file of weights says."""
    network = cast(CLIPText, load(found, dtype, report))
    network.config = replace(network.config, eos=tokenizer.end)
    return ClipEncoder(network, tokenizer, found.part.component)
