"""PixArt, Lumina and DiT from published folders, and from files that hold all of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
from diptych.models.autoencoder_sd import AutoencoderSD
from diptych.models.dit import DiT
from diptych.models.gemma_encoder import GemmaEncoder
from diptych.models.t5_encoder import T5Encoder
from diptych.pipelines.labelled import LabelledNetworks, labels_of
from diptych.pipelines.painting import Painting
from diptych.pipelines.sampling import Sampling
from diptych.pipelines.stable_diffusion_files import need
from diptych.pipelines.unpadded import GemmaReader, Reader, T5Reader
from diptych.pipelines.worded import WAYS, WordedNetworks
from diptych.text.gemma_tokenizer import GemmaTokenizer
from diptych.text.t5_tokenizer import T5Tokenizer

# Of a folder, the networks by component, and the preset as the folder has it.
Build = Callable[[Path, str, Mapping[str, Any], Preset], Painting]


@dataclass(frozen=True)
class Family:
    """How a family's folders become what paints: `needs` of components."""

    build: Build
    needs: tuple[str, ...]


def _reader(path: Path, network: Any) -> Reader:
    """By the network: its tokenizer lies in the folder, or beside the file. Raises NotFound,
    Unreadable."""
    words = (path if path.is_dir() else path.parent) / "tokenizer"
    if isinstance(network, GemmaEncoder):
        return GemmaReader(network, GemmaTokenizer.load(words))
    if isinstance(network, T5Encoder):
        return T5Reader(network, T5Tokenizer.load(words))
    raise Unreadable(f"The words of {str(path)!r} are read with a {type(network).__name__}.")


def _worded(path: Path, name: str, networks: Mapping[str, Any], preset: Preset) -> WordedNetworks:
    reader = _reader(path, networks["text_encoder"])
    vae = cast(AutoencoderSD, networks["vae"])
    return WordedNetworks(networks["transformer"], vae, reader, WAYS[name], preset)


def _labelled(
    path: Path, name: str, networks: Mapping[str, Any], preset: Preset
) -> LabelledNetworks:
    vae, transformer = cast(AutoencoderSD, networks["vae"]), cast(DiT, networks["transformer"])
    labels = labels_of(_said(path, "model_index.json"))
    return LabelledNetworks(transformer, vae, labels, preset)


TRANSFORMERS: dict[str, Family] = {
    "dit": Family(_labelled, ("transformer", "vae")),
    **{name: Family(_worded, ("transformer", "vae", "text_encoder")) for name in WAYS},
}
# What a pipeline's class says of a family that its shapes do not tell.
_CLASSES = {"PixArtAlphaPipeline": "pixart-alpha", "PixArtSigmaPipeline": "pixart-sigma"}


def family_of(path: Path, found: Mapping[str, Found]) -> str:
    """That of the transformer, as its folder may know it better."""
    name = found["transformer"].report.family
    said = _said(path, "model_index.json").get("_class_name")
    return _CLASSES.get(str(said), name) if name.startswith("pixart") else name


def read_transformer(
    path: Path, found: Mapping[str, Found], dtype: torch.dtype, report: Report = silent
) -> tuple[Painting, Sampling, tuple[LoadReport, ...]]:
    """What paints, its recommended sampling, and the account of every component, which has been
    checked. Raises NotFound or Unreadable."""
    name = family_of(path, found)
    family = TRANSFORMERS[name]
    need(path, found, *family.needs)
    preset = _preset(path, name)
    networks = {component: load(found[component], dtype, report) for component in family.needs}
    sampling = Sampling(
        steps=preset.steps,
        guidance=preset.guidance,
        shift=cast("float | None", preset.shift),
        solver=preset.solver,
        spacing=str(preset.spacing),
    )
    painting = family.build(path, name, networks, preset)
    return painting, sampling, tuple(one.report for one in found.values())


def _preset(path: Path, name: str) -> Preset:
    """The family's, as the folder's scheduler has it. Raises Unreadable."""
    preset, said = PRESETS[name], _said(path, "scheduler/scheduler_config.json")
    if not said:
        return preset
    if preset.shift is None:
        return preset_of(preset, said)
    if said.get("use_dynamic_shifting"):
        raise Unreadable(f"A {name} whose shift follows the picture's size is not built here.")
    return replace(preset, shift=float(said.get("shift", 1.0)))


def _said(path: Path, name: str) -> Mapping[str, Any]:
    """A folder's small file, or nothing where it is not there."""
    return read_json(path / name) if (path / name).is_file() else {}
