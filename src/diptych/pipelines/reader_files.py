"""Published image-to-text folders: networks, words, and the way they see, with the full account."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from diptych.checkpoints.account import LoadReport
from diptych.checkpoints.families.preprocessor import Tower, inputs_of_json, preprocessor_in
from diptych.checkpoints.folder import read_json
from diptych.checkpoints.load import found_in, load
from diptych.foundation.errors import NotFound, Unreadable
from diptych.foundation.progress import Report, silent
from diptych.models.blip2 import Blip2Config
from diptych.models.florence2 import Florence2Config
from diptych.models.qwen_vl.network import QwenVL
from diptych.models.vlm import VLM
from diptych.pipelines.classic_networks import WAYS, ClassicNetworks
from diptych.pipelines.vlm_networks import MANNERS, VLMNetworks
from diptych.text.hub_tokenizer import HubTokenizer


def is_published_reader(path: Path) -> bool:
    """Whether this is the folder of a published image-to-text model, and not one of ours."""
    config = path / "config.json"
    return config.is_file() and "model_type" in read_json(config)


def read_published_reader(
    path: Path,
    dtype: torch.dtype,
    *,
    allow: tuple[str, ...] = (),
    pack: bool = True,
    report: Report = silent,
) -> tuple[VLMNetworks | ClassicNetworks, LoadReport]:
    """The networks and their account. Raises NotFound or Unreadable, before any tensor is read.

    `pack`: the language model's weights laid for speed, once more in memory than in the file.
    """
    content = read_json(path / "config.json")
    kind = content.get("model_type", "")
    if kind in _CLASSIC:
        return _read_classic(path, dtype, content, allow=allow, pack=pack, report=report)
    if kind not in MANNERS:
        raise Unreadable(
            f"A model of type {kind!r} does not read pictures here yet.",
            do=f"Those that do: {', '.join(sorted({*MANNERS, *_CLASSIC}))}.",
        )
    tokenizer = HubTokenizer.load(path)
    found = found_in(path, allow=allow)
    config = found[0].part.config
    tower = Tower(*getattr(config, "rows", (1, 1)), pooled_above=_POOLED.get(kind))
    inputs = inputs_of_json(_preprocessor(path), tower)
    network = load(found[0], dtype, report)
    if not isinstance(network, VLM | QwenVL):
        raise Unreadable(f"{str(path)!r} holds no image-to-text model.")
    if pack:
        network.language.pack()
    ends = tuple(end for end in tokenizer.ends if end < config.language.vocabulary)
    networks = VLMNetworks(
        network.language, ends, tokenizer.decode, network, tokenizer, inputs,
        MANNERS[kind],
    )  # fmt: skip
    return networks, found[0].report


# By the type that a folder's config names.
_CLASSIC = frozenset(
    {"blip", "blip-2", "florence2", "git", "instructblip", "vision-encoder-decoder"}
)


def _read_classic(
    path: Path,
    dtype: torch.dtype,
    content: Mapping[str, Any],
    *,
    allow: tuple[str, ...],
    pack: bool,
    report: Report,
) -> tuple[ClassicNetworks, LoadReport]:
    found = found_in(path, allow=allow)
    family, config = found[0].report.family, found[0].part.config
    if family not in WAYS:
        raise Unreadable(
            f"{str(path)!r} holds a {family}, which says no words.",
            do=f"Those that do: {', '.join(sorted(WAYS))}.",
        )
    way = WAYS[family]
    later = path / "generation_config.json"
    content = {**content, "generation": read_json(later) if later.is_file() else {}}
    tokenizer = HubTokenizer.load(path)
    pixels = _preprocessor(path)
    inputs = inputs_of_json(pixels, _tower_of(config, pixels.get("size")))
    network = cast(Any, load(found[0], dtype, report))
    if pack:
        network.language.pack()
    networks = ClassicNetworks(
        network.language, way.ends(content), tokenizer.decode, network, tokenizer, inputs, way,
        way.begins(content), way.within and (way.within[0](content), way.within[1](content)),
        _former_of(path, config),
    )  # fmt: skip
    return networks, found[0].report


def _former_of(path: Path, config: Any) -> HubTokenizer | None:
    """The words of a Q-Former that reads."""
    if not isinstance(config, Blip2Config) or not config.former.layers.vocabulary:
        return None
    return HubTokenizer.load(path / "qformer_tokenizer", ends=(0,))


def _tower_of(config: Any, size: Any) -> Tower:
    """What is made of a picture; Florence-2's rows follow its size."""
    if isinstance(config, Florence2Config):
        sides = size if isinstance(size, Mapping) else {}
        rows, columns = config.rows_at(sides.get("width", 768), sides.get("height", 768))
        return Tower(rows, columns, extra=1)
    return Tower(*config.rows)


# Tiles' worth of rows beyond which OneVision thins them.
_POOLED = {"llava_onevision": 9}


def _preprocessor(path: Path) -> dict[str, object]:
    said = preprocessor_in(path)
    if said is None:
        raise NotFound(
            f"There is no preprocessor_config.json in {str(path)!r}.",
            do="Copy it from where the model came from: it says how pictures are seen.",
        )
    return said
