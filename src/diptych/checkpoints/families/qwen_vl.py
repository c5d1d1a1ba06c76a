"""Qwen2-VL and Qwen2.5-VL: their configs of before and after the text had one of its own, and the
two layouts in which they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diptych.checkpoints.families.config_json import PublishedConfig
from diptych.checkpoints.families.decoder import PASSED_OVER, decoder_of_json
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Kind, Layout, by_json
from diptych.checkpoints.rules import Rule
from diptych.foundation.errors import Unreadable
from diptych.models.qwen_vl.network import QwenVL, QwenVLConfig
from diptych.models.qwen_vl.tower import QwenTowerConfig

FAMILIES = ("qwen2_vl", "qwen2_5_vl")
_OF_PICTURES = (
    "image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id",
    "vision_token_id", "vision_config",
)  # fmt: skip
# What transformers writes of places in three axes in the tower.
_AXIAL = {"rope_theta": 10_000.0, "rope_type": "axial"}


def config_of_json(content: Mapping[str, Any]) -> QwenVLConfig:
    """From the folder's config.json. Raises Unreadable for what is not built here, by name."""
    kind = content.get("model_type", "")
    if kind not in FAMILIES:
        raise Unreadable(f"An image-to-text model of type {kind!r} is no Qwen-VL that is built.")
    told = content.get("text_config")
    if told is None:  # of before: the text's keys stand beside the pictures'
        told = {key: value for key, value in content.items() if key not in _OF_PICTURES}
    else:
        said = PublishedConfig(content, f"A {kind}")
        for key in (*PASSED_OVER, *_OF_PICTURES, "text_config"):
            said.take(key)
        said.end()
    inner = {key: value for key, value in told.items() if key not in _OF_PICTURES}
    return QwenVLConfig(
        vision=_tower(content.get("vision_config") or {}, kind),
        language=decoder_of_json({**inner, "model_type": "qwen2"}),
        picture_token=content.get("image_token_id") or 151_655,
    )


def _tower(content: Mapping[str, Any], kind: str) -> QwenTowerConfig:
    said = PublishedConfig(content, f"The vision tower of a {kind}")
    for key in (*PASSED_OVER, "tokens_per_second"):
        said.take(key)
    said.only("rope_parameters", None, _AXIAL)
    said.only("in_channels", 3)
    said.only("in_chans", 3)
    said.take("spatial_patch_size")  # of before: the same as patch_size
    shared: dict[str, Any] = {
        "depth": said.take("depth", 32),
        "heads": said.take("num_heads", 16),
        "patch": said.take("patch_size", 14),
        "merge": said.take("spatial_merge_size", 2),
        "copies": said.take("temporal_patch_size", 2),
    }
    if kind == "qwen2_5_vl":
        said.only("hidden_act", "silu")
        config = QwenTowerConfig(
            **shared, width=said.take("hidden_size", 3584), gated=True,
            hidden=said.take("intermediate_size", 3420), rows=said.take("out_hidden_size", 3584),
            window=said.take("window_size", 112),
            full=tuple(said.take("fullatt_block_indexes", (7, 15, 23, 31))),
        )  # fmt: skip
    else:
        said.only("hidden_act", "quick_gelu")
        width = said.take("embed_dim", 1280)
        config = QwenTowerConfig(
            **shared, width=width, hidden=int(width * said.take("mlp_ratio", 4)),
            rows=said.take("hidden_size", 3584),
        )  # fmt: skip
    said.end()
    return config


def _settled(config: QwenVLConfig, header: Header) -> QwenVLConfig:
    """Whether the output has weights of its own is asked of the file: configs contradict."""
    return replace(config, language=replace(config.language, tied="lm_head.weight" not in header))


def _layout(name: str, vision: str, language: str) -> Layout:
    def rules(config: QwenVLConfig) -> list[Rule]:
        head = Rule("language.lm_head.", "lm_head.")
        return [Rule("vision.", vision), Rule("language.", language), head]

    return Layout(
        f"qwen, {name}",
        "reader",
        (f"{vision}merger.ln_q.weight", f"{language}embed_tokens.weight"),
        ("",),
        by_json,
        rules,
        (r".*rotary(_pos)?_emb\.inv_freq",),
        kind="qwen-vl",
        settled=_settled,
    )


def _family(config: QwenVLConfig) -> str:
    return "qwen2.5-vl" if config.vision.gated else "qwen2-vl"


KINDS: dict[str, Kind] = {"qwen-vl": Kind(QwenVL, config_of_json, _family)}
LAYOUTS = (
    _layout("hub", "visual.", "model."),
    _layout("nested", "model.visual.", "model.language_model."),
)
