"""SigLIP and SigLIP 2 of fixed size with both towers: folders of `SiglipModel`, and OpenCLIP's
files, whose vision tower has timm's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diptych.checkpoints.families.clip import below, openclip_text_rules, part_taken
from diptych.checkpoints.families.config_json import OF_LIBRARY, PublishedConfig, count_of
from diptych.checkpoints.families.vision import (
    assumed_of,
    clip_like,
    heads_of,
    sized,
)
from diptych.checkpoints.families.vision_config import activation_taken, siglip_tower
from diptych.checkpoints.families.vision_names import clip_names, moved, timm_names
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Kind, Known, Layout
from diptych.checkpoints.rules import SCALAR, Rule
from diptych.foundation.errors import Unreadable
from diptych.models.siglip import SIGLIP_TOWER, SigLIP, SigLIPConfig, SigLIPTextConfig
from diptych.models.vision_tower import VisionTowerConfig

# Layers of those that were published, by width: a file cut short does not pass for a smaller one.
_DEPTHS = {768: 12, 1024: 24, 1152: 27}


def siglip_rules(config: SigLIPConfig) -> list[Rule]:
    """The folder's layout."""
    return moved(clip_names(config.vision), "vision_model.", "vision_model.")


def openclip_rules(config: SigLIPConfig) -> list[Rule]:
    return [
        *moved(timm_names(config.vision), "vision_model.", "visual.trunk."),
        *openclip_text_rules(config.text.depth, "text."),
        Rule("text_model.head.", "text.text_projection."),
        Rule("logit_scale", "logit_scale", SCALAR),
        Rule("logit_bias", "logit_bias", SCALAR),
    ]


def config_of_json(content: Mapping[str, Any]) -> SigLIPConfig:
    """From the folder's config.json. Raises Unreadable, for SigLIP 2 of any size by name."""
    if content.get("model_type") == "siglip2":
        raise Unreadable("This is SigLIP 2 of any size (NaFlex), which is not built here yet.")
    said = PublishedConfig(content, "A SigLIP")
    said.only("model_type", "siglip")
    words, seen = (part_taken(said, part) for part in ("text_config", "vision_config"))
    said.end(OF_LIBRARY)
    tower = PublishedConfig(seen, "SigLIP's vision tower")
    vision = siglip_tower(tower)
    tower.end(OF_LIBRARY)
    if vision.pooling != "map":
        raise Unreadable("A SigLIP without its trained query pools nothing.")
    return SigLIPConfig(vision=vision, text=_text_of_json(words))


def _text_of_json(content: Mapping[str, Any]) -> SigLIPTextConfig:
    said = PublishedConfig(content, "SigLIP's text tower")
    said.only("attention_dropout", 0.0, 0)
    width = said.take("hidden_size", 768)
    config = SigLIPTextConfig(
        vocabulary=said.take("vocab_size", 32000),
        length=said.take("max_position_embeddings", 64),
        width=width,
        depth=said.take("num_hidden_layers", 12),
        heads=said.take("num_attention_heads", 12),
        hidden=said.take("intermediate_size", 3072),
        activation=activation_taken(said, "gelu_pytorch_tanh"),
        norm_epsilon=said.take("layer_norm_eps", 1e-6),
        projection=said.take("projection_size") or width,
    )
    said.end(OF_LIBRARY)
    return config


def _config_of_folder(header: Header) -> Known:
    words = below(header, "text_model.")
    text = _text(
        words["embeddings.token_embedding.weight"].shape,
        length=words["embeddings.position_embedding.weight"].shape[0],
        depth=count_of(words, "encoder.layers"),
        hidden=words["encoder.layers.0.mlp.fc1.weight"].shape[0],
        projection=words["head.weight"].shape[0],
    )
    return _settled(clip_like(below(header, "vision_model."), SIGLIP_TOWER), text)


def _config_of_openclip(header: Header) -> Known:
    seen, words = below(header, "visual.trunk."), below(header, "text.")
    vision = sized(
        SIGLIP_TOWER,
        seen["patch_embed.proj.weight"].shape,
        seen["pos_embed"].shape[1],
        depth=count_of(seen, "blocks"),
        hidden=seen["blocks.0.mlp.fc1.weight"].shape[0],
    )
    text = _text(
        words["token_embedding.weight"].shape,
        length=words["positional_embedding"].shape[0],
        depth=count_of(words, "transformer.resblocks"),
        hidden=words["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        projection=words["text_projection.weight"].shape[0],
    )
    return _settled(vision, text)


def _text(
    embedding: tuple[int, ...], *, length: int, depth: int, hidden: int, projection: int
) -> SigLIPTextConfig:
    vocabulary, width = embedding
    return SigLIPTextConfig(
        vocabulary=vocabulary,
        length=length,
        width=width,
        depth=_DEPTHS.get(width, depth),
        heads=heads_of(width),
        hidden=hidden,
        projection=projection,
    )


def _settled(vision: VisionTowerConfig, text: SigLIPTextConfig) -> Known:
    heads = f"{vision.heads} and {text.heads}"
    return SigLIPConfig(vision=vision, text=text), assumed_of(vision) | {"heads": heads}


KINDS = {"siglip": Kind(SigLIP, config_of_json, lambda config: "siglip")}
LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "folder",
        "siglip",
        ("logit_bias", "text_model.head.weight", "vision_model.embeddings.patch_embedding.weight"),
        ("",),
        _config_of_folder,
        siglip_rules,
        (r"(text|vision)_model\.embeddings\.position_ids",),
    ),
    Layout(
        "OpenCLIP",
        "siglip",
        ("logit_bias", "visual.trunk.attn_pool.latent", "text.text_projection.weight"),
        ("", "module."),
        _config_of_openclip,
        openclip_rules,
    ),
)
