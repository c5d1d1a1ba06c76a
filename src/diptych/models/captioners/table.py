"""The captioners by name, and what they see through. A line of `MODELS` each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from diptych.models.captioners.bottom_up_top_down import BottomUpTopDown, BottomUpTopDownConfig
from diptych.models.captioners.clip_cap import ClipCap, ClipCapConfig
from diptych.models.captioners.flamingo import Flamingo, FlamingoConfig
from diptych.models.captioners.linear_bridge import LinearBridge, LinearBridgeConfig
from diptych.models.captioners.ofa import OFA, OFAConfig
from diptych.models.captioners.show_and_tell import ShowAndTell, ShowAndTellConfig
from diptych.models.captioners.show_attend_tell import ShowAttendTell, ShowAttendTellConfig
from diptych.models.captioners.sim_vlm import SimVLM, SimVLMConfig
from diptych.models.captioners.uniter import UNITER, UNITERConfig
from diptych.models.captioners.vilbert import ViLBERT, ViLBERTConfig
from diptych.models.captioners.vit_gpt2 import ViTGPT2, ViTGPT2Config
from diptych.models.captioners.word_decoder import WordDecoder, WordDecoderConfig
from diptych.models.region_detector import RegionDetector, RegionDetectorConfig
from diptych.models.resnet import ResNet, ResNetConfig

Row = tuple[type[Any], Callable[[Any], nn.Module], Callable[[Any, int, int], dict[str, Tensor]]]


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _image(config: Any, batch: int, seed: int) -> dict[str, Tensor]:
    return {"image": torch.randn(batch, 3, 16, 24, generator=_random(seed))}


def _words(config: Any, batch: int, seed: int) -> dict[str, Tensor]:
    words = getattr(config, "words", config)
    draw = _random(seed)
    return {"tokens": torch.randint(2, words.vocabulary, (batch, 6), generator=draw)}


def _of(kind: str, width: str, *rows: int) -> Callable[[Any, int, int], dict[str, Tensor]]:
    """Words, and features [batch, *rows, the config's `width`] of a kind."""

    def example(config: Any, batch: int, seed: int) -> dict[str, Tensor]:
        shape = (batch, *rows, getattr(config, width))
        return {
            kind: torch.randn(shape, generator=_random(seed + 100)),
            **_words(config, batch, seed),
        }

    return example


def _turns(config: FlamingoConfig, batch: int, seed: int) -> dict[str, Tensor]:
    tokens = _words(config, batch, seed)["tokens"]
    tokens[:, [0, 3]] = config.bos
    patches = torch.randn(batch, 2, 4, config.patch_width, generator=_random(seed + 100))
    return {"patches": patches, "tokens": tokens}


def _pairs(config: UNITERConfig | ViLBERTConfig, batch: int, seed: int) -> dict[str, Tensor]:
    draw = _random(seed)
    regions = torch.randn(batch, 4, config.region_width, generator=draw)
    mask = torch.tensor([[True] * 5 + [False]]).repeat(batch, 1)
    boxes = torch.rand(batch, 4, 4, generator=draw)
    return {"regions": regions, "boxes": boxes, "mask": mask, **_words(config, batch, seed)}


CAPTIONERS: dict[str, Row] = {
    "bottom-up-top-down": (
        BottomUpTopDownConfig, BottomUpTopDown, _of("regions", "region_width", 4)
    ),
    "clip-cap": (ClipCapConfig, ClipCap, _of("clip", "clip_width")),
    "flamingo": (FlamingoConfig, Flamingo, _turns),
    "linear-bridge": (LinearBridgeConfig, LinearBridge, _of("patches", "patch_width", 16)),
    "ofa": (OFAConfig, OFA, _of("grid", "grid_width", 9)),
    "region-detector": (RegionDetectorConfig, RegionDetector, _image),
    "resnet": (ResNetConfig, ResNet, _image),
    "show-and-tell": (ShowAndTellConfig, ShowAndTell, _of("pooled", "picture_width")),
    "show-attend-tell": (ShowAttendTellConfig, ShowAttendTell, _of("grid", "grid_width", 9)),
    "sim-vlm": (SimVLMConfig, SimVLM, _of("grid", "grid_width", 9)),
    "uniter": (UNITERConfig, UNITER, _pairs),
    "vilbert": (ViLBERTConfig, ViLBERT, _pairs),
    "vit-gpt2": (ViTGPT2Config, ViTGPT2, _of("patches", "patch_width", 9)),
    "word-decoder": (WordDecoderConfig, WordDecoder, _words),
}  # fmt: skip
