"""SD3 and FLUX from a published folder or a single file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch

from diptych.checkpoints.account import LoadReport
from diptych.checkpoints.families.flow_scheduler import flow_preset_of
from diptych.checkpoints.load import Found, load
from diptych.checkpoints.presets import PRESETS, Preset
from diptych.foundation.errors import NotFound
from diptych.foundation.progress import Report, silent
from diptych.models.autoencoder_sd import AutoencoderSD
from diptych.models.flux import Flux
from diptych.models.sd3 import SD3
from diptych.models.t5_encoder import T5Encoder
from diptych.pipelines.conditioning import Encoder, TextRecipe
from diptych.pipelines.flow_transformer import CFG, NONE, TOLD, FlowTransformerNetworks
from diptych.pipelines.sampling import Sampling
from diptych.pipelines.stable_diffusion_files import (
    Words,
    clip_encoder,
    clip_tokenizer,
    need,
    said_by,
)
from diptych.pipelines.t5_conditioning import NoWords, T5Reader, flux_words, sd3_words
from diptych.text.t5_tokenizer import T5Tokenizer, is_t5

_SIDE = 128  # of the latent, where no file says it


@dataclass(frozen=True)
class FlowFamily:
    """How a family differs. `clips` and `t5`: its text encoders; `recipe`: what is made of their
    words, for the transformer's width; `lengths`: of T5's rows; `guided` and `shown` as in
    `FlowTransformerNetworks`; `optional`: it also paints without T5."""

    clips: Mapping[str, Words]
    t5: Words
    recipe: Callable[[int], TextRecipe]
    lengths: tuple[int, ...]
    guided: str
    shown: str = ""
    optional: bool = False


_FIRST = Words("text_encoder", "tokenizer")
_SD3 = FlowFamily(
    {"clip_l": _FIRST, "clip_g": Words("text_encoder_2", "tokenizer_2", "!")},
    Words("text_encoder_3", "tokenizer_3"), sd3_words, (256, 512), CFG, optional=True,
)  # fmt: skip
_FLUX = FlowFamily(
    {"clip_l": _FIRST}, Words("text_encoder_2", "tokenizer_2"), flux_words, (512,), TOLD
)
# Each has a preset of its name.
FLOW_FAMILIES: dict[str, FlowFamily] = {
    "sd3": _SD3,
    "sd3.5-medium": _SD3,
    "sd3.5-large": _SD3,
    "flux-dev": _FLUX,
    "flux-schnell": replace(_FLUX, lengths=(256,), guided=NONE),
    "flux-fill": replace(_FLUX, shown="inside"),
    "flux-control": replace(_FLUX, shown="beside"),
}


def read_flow_transformer(
    path: Path, found: Mapping[str, Found], dtype: torch.dtype, report: Report = silent
) -> tuple[FlowTransformerNetworks, Sampling, tuple[LoadReport, ...]]:
    """The networks, the recommended sampling, and the account of every component, which is right.

    Raises NotFound or Unreadable; all small files are read before any tensor is.
    """
    name = found["transformer"].report.family
    family, reports = FLOW_FAMILIES[name], {key: one.report for key, one in found.items()}
    need(path, found, "vae", *(words.component for words in family.clips.values()))
    without = family.optional and family.t5.component not in found
    if without:
        told = {**reports["transformer"].assumed, "T5": "none: zeros in place of its words"}
        reports["transformer"] = replace(reports["transformer"], assumed=told)
    else:
        need(path, found, family.t5.component)
    scheduler = said_by(path, "scheduler/scheduler_config.json")
    preset = flow_preset_of(PRESETS[name], scheduler) if scheduler else PRESETS[name]
    clips = {words: clip_tokenizer(path, said) for words, said in family.clips.items()}
    t5 = None if without else _t5_tokenizer(path, family.t5)
    transformer = cast(SD3 | Flux, load(found["transformer"], dtype, report))
    vae = cast(AutoencoderSD, load(found["vae"], dtype, report))
    read = {
        words: clip_encoder(found[said.component], clips[words], dtype, report)
        for words, said in family.clips.items()
    }
    width = transformer.config.context_width
    last: Encoder = NoWords(width, family.lengths[0], read["clip_l"])
    if t5 is not None:
        network = cast(T5Encoder, load(found[family.t5.component], dtype, report))
        last = T5Reader(network, t5, family.lengths, family.t5.component)
    side = said_by(path, "transformer/config.json").get("sample_size")
    size = (side if isinstance(side, int) else _SIDE) * vae.factor
    networks = FlowTransformerNetworks(
        transformer, vae, {**read, "t5": last}, family.recipe(width), preset, family.guided,
        family.shown, (size, size),
    )  # fmt: skip
    return networks, _sampling(preset), tuple(reports.values())


def _sampling(preset: Preset) -> Sampling:
    """As the preset recommends; a shift that follows the size is left to it."""
    return Sampling(
        steps=preset.steps,
        guidance=preset.guidance if preset.embedded is None else preset.embedded,
        shift=None if callable(preset.shift) else preset.shift,
        solver=preset.solver,
        spacing=str(preset.spacing),
    )


def _t5_tokenizer(path: Path, words: Words) -> T5Tokenizer:
    """From its folder in the model's, or beside a single file. Raises NotFound."""
    folder = path if path.is_dir() else path.parent
    for place in (folder / words.tokenizer, folder / "tokenizer", folder):
        if is_t5(place):
            return T5Tokenizer.load(place)
    if path.is_dir():
        return T5Tokenizer.load(path / words.tokenizer)
    raise NotFound(
        f"{path.name!r} holds T5 and no file of its vocabulary, which does not come with Diptych.",
        do=f"Put tokenizer.json or spiece.model of the published {words.tokenizer!r} beside it, "
        f"in a folder {words.tokenizer!r}.",
    )
