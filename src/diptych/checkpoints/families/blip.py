"""BLIP: its config, and its layouts of the hub and of the original repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from diptych.checkpoints.families.classic import NAMINGS, bert_of_json
from diptych.checkpoints.families.config_json import OF_LIBRARY, PublishedConfig
from diptych.checkpoints.families.decoder import PASSED_OVER
from diptych.checkpoints.families.vision_config import sized_tower
from diptych.checkpoints.families.vision_names import blip_names, moved, timm_names
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Kind, Layout, by_json
from diptych.checkpoints.rules import Rule
from diptych.models.blip import BLIP_TOWER, Blip, BlipConfig
from diptych.models.vision_tower import VisionTowerConfig


def config_of_json(content: Mapping[str, Any]) -> BlipConfig:
    """From the folder's config.json, which does not say what it is for: see `_settled`."""
    said = PublishedConfig(content, "A BLIP")
    for key in ("projection_dim", "logit_scale_init_value", "label_smoothing",
                "text_config_dict", "vision_config_dict", *PASSED_OVER):  # fmt: skip
        said.take(key)
    vision = tower_of_json(said.take("vision_config") or {}, BLIP_TOWER)
    words = bert_of_json(said.take("text_config") or {}, "BLIP's text", memory=vision.width)
    projection = said.take("image_text_hidden_size", 256)
    said.end(OF_LIBRARY)
    decoder = replace(words, head_bias=True, transform=True)
    return BlipConfig(vision=vision, decoder=decoder, encoder=words, projection=projection)


def tower_of_json(content: Mapping[str, Any], usual: VisionTowerConfig) -> VisionTowerConfig:
    """BLIP's tower, which its successors have too."""
    shape = {key: value for key, value in content.items() if key not in PASSED_OVER}
    said = PublishedConfig(shape, "BLIP's vision tower")
    said.take("projection_dim")
    said.take("max_position_embeddings")
    said.take("dropout")
    tower = sized_tower(said, usual, "gelu")
    tower = replace(tower, qkv_bias=said.take("qkv_bias", True))
    said.end(OF_LIBRARY)
    return tower


def family_of(config: BlipConfig) -> str:
    if config.decoder is None:
        return "blip-matcher"
    return "blip-captioner" if config.encoder is None else "blip-vqa"


def _settled(config: BlipConfig, header: Header) -> BlipConfig:
    """What it is for is told by the parts that are there."""
    speaks = any(name.startswith("text_decoder.") for name in header)
    reads = any(name.startswith("text_encoder.") for name in header)
    return replace(
        config,
        decoder=config.decoder if speaks else None,
        encoder=config.encoder if reads else None,
        projection=0 if speaks else config.projection,
    )


def _rules(
    tower: str, names: Callable[[VisionTowerConfig], list[Rule]], encoder: str = "text_encoder."
) -> Callable[[BlipConfig], list[Rule]]:
    def rules(config: BlipConfig) -> list[Rule]:
        made = moved(names(config.vision), "vision.", tower)
        if config.decoder is not None:
            words = NAMINGS["bert"].rules(
                config.decoder, "decoder.", "text_decoder.bert.", "text_decoder.cls."
            )
            made += words
        if config.encoder is not None:
            made += NAMINGS["bert"].rules(config.encoder, "encoder.", encoder)
        return made

    return rules


_IGNORABLE = (
    r".*embeddings\.position_ids", r"text_decoder\.cls\.predictions\.decoder\.(weight|bias)",
)  # fmt: skip
KINDS: dict[str, Kind] = {"blip": Kind(Blip, config_of_json, family_of)}


def _layout(name: str, marks: tuple[str, ...], rules: Any) -> Layout:
    return Layout(
        f"blip, {name}", "reader", marks, ("",), by_json, rules, _IGNORABLE, kind="blip",
        settled=_settled,
    )  # fmt: skip


_HUB = _rules("vision_model.", blip_names)
_ORIGINAL = _rules("visual_encoder.", timm_names)
LAYOUTS = (
    _layout(
        "hub", ("vision_model.encoder.layers.0.self_attn.qkv.weight",
                "text_decoder.bert.embeddings.word_embeddings.weight"), _HUB,
    ),
    _layout(
        "hub, matching", ("vision_model.encoder.layers.0.self_attn.qkv.weight", "itm_head.weight"),
        _HUB,
    ),
    _layout(
        "original", ("visual_encoder.blocks.0.attn.qkv.weight",
                     "text_decoder.bert.embeddings.word_embeddings.weight"), _ORIGINAL,
    ),
    _layout(
        "original, matching", ("visual_encoder.blocks.0.attn.qkv.weight", "itm_head.weight"),
        _ORIGINAL,
    ),
)  # fmt: skip
