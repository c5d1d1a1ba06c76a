"""CLIP's text transformers: folders with and without `text_model.`, and OpenCLIP's own layout, in
which query, key and value are one matrix and the projection lies the other way round."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from diptych.checkpoints.families.config_json import OF_LIBRARY, PublishedConfig
from diptych.checkpoints.header import Header
from diptych.checkpoints.rules import TRANSPOSE, Rule
from diptych.models.clip_text import CLIP_L, OPENCLIP_BIGG, OPENCLIP_H, CLIPTextConfig

# Layers of those that were published, by width: a file cut short does not pass for a smaller one.
# OpenCLIP's H has 24, and SD 2 reads the state before its last.
_DEPTHS = {CLIP_L.width: CLIP_L.depth, OPENCLIP_H.width: 23, OPENCLIP_BIGG.width: 32}
_PARTS = ("embeddings.", "encoder.", "final_layer_norm.")
_OPENCLIP = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
}  # fmt: skip


def nested_rules() -> list[Rule]:
    """The layout with `text_model.` before all but the projection."""
    return [Rule(part, f"text_model.{part}") for part in _PARTS]


def unnested(header: Header) -> Header:
    """The header without `text_model.`."""
    return {name.removeprefix("text_model."): one for name, one in header.items()}


def openclip_rules(depth: int) -> list[Rule]:
    rules = [
        Rule("embeddings.token_embedding.", "token_embedding."),
        Rule("embeddings.position_embedding.weight", "positional_embedding"),
        Rule("final_layer_norm.", "ln_final."),
        Rule("text_projection.weight", "text_projection", TRANSPOSE),
    ]
    for i in range(depth):
        ours, theirs = f"encoder.layers.{i}", f"transformer.resblocks.{i}"
        rules += [Rule(f"{ours}.{a}.", f"{theirs}.{b}.") for a, b in _OPENCLIP.items()]
        for part, name in enumerate(("q", "k", "v")):
            for leaf in ("weight", "bias"):
                place = f"{ours}.self_attn.{name}_proj.{leaf}"
                rules.append(Rule(place, f"{theirs}.attn.in_proj_{leaf}", part=part, parts=3))
    return rules


def config_of_json(content: Mapping[str, Any], eos: int) -> CLIPTextConfig:
    """From the folder's config.json; `eos` is the tokenizer's. Raises Unreadable."""
    said = PublishedConfig(content, "A CLIP text encoder")
    said.only("attention_dropout", 0.0, 0)
    width = said.take("hidden_size", 512)
    projection = said.take("projection_dim", 512)
    projects = "CLIPTextModelWithProjection" in (content.get("architectures") or ())
    config = CLIPTextConfig(
        vocabulary=said.take("vocab_size", 49408),
        length=said.take("max_position_embeddings", 77),
        width=width,
        depth=said.take("num_hidden_layers", 12),
        heads=said.take("num_attention_heads", 8),
        hidden=said.take("intermediate_size", 2048),
        activation=said.take("hidden_act", "quick_gelu"),
        norm_epsilon=said.take("layer_norm_eps", 1e-5),
        projection=projection if projects else 0,
        eos=eos,
    )
    said.end(OF_LIBRARY)
    return config


def config_of_header(header: Header, eos: int) -> tuple[CLIPTextConfig, dict[str, str]]:
    """From names and shapes of a layout with `encoder.layers`, prefix and `text_model.` taken
    off; and what was assumed."""
    projection = header.get("text_projection.weight")
    return _config(
        header["embeddings.token_embedding.weight"].shape,
        length=header["embeddings.position_embedding.weight"].shape[0],
        depth=_count(header, r"encoder\.layers\.(\d+)\."),
        hidden=header["encoder.layers.0.mlp.fc1.weight"].shape[0],
        projection=projection.shape[0] if projection else 0,
        eos=eos,
    )


def config_of_openclip(
    header: Header, eos: int, *, projects: bool
) -> tuple[CLIPTextConfig, dict[str, str]]:
    """From names and shapes of OpenCLIP's layout, prefix taken off, and what was assumed;
    `projects`: whether anything reads what its projection makes."""
    return _config(
        header["token_embedding.weight"].shape,
        length=header["positional_embedding"].shape[0],
        depth=_count(header, r"transformer\.resblocks\.(\d+)\."),
        hidden=header["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        projection=header["text_projection"].shape[1] if projects else 0,
        eos=eos,
    )


def _config(
    embedding: tuple[int, ...], *, length: int, depth: int, hidden: int, projection: int, eos: int
) -> tuple[CLIPTextConfig, dict[str, str]]:
    vocabulary, width = embedding
    config = CLIPTextConfig(
        vocabulary=vocabulary,
        length=length,
        width=width,
        depth=_DEPTHS.get(width, depth),
        heads=max(1, width // 64),
        hidden=hidden,
        activation="quick_gelu" if width == CLIP_L.width else "gelu",
        projection=projection,
        eos=eos,
    )
    return config, {"heads": "64 channels each", "activation": config.activation}


def _count(header: Header, pattern: str) -> int:
    return len({match[1] for name in header if (match := re.match(pattern, name))})
