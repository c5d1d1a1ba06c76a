"""Florence-2: its config as transformers and as its authors wrote it, and both layouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diptych.checkpoints.families.classic import NAMINGS, bart_of_json
from diptych.checkpoints.families.config_json import OF_LIBRARY, PublishedConfig
from diptych.checkpoints.families.decoder import PASSED_OVER
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Kind, Layout, by_json
from diptych.checkpoints.rules import TRANSPOSE, Rule
from diptych.models.davit import DaViTConfig
from diptych.models.florence2 import Florence2, Florence2Config


def config_of_json(content: Mapping[str, Any]) -> Florence2Config:
    """From the folder's config.json."""
    said = PublishedConfig(content, "A Florence-2")
    for key in ("image_token_id", "image_token_index", "is_encoder_decoder", "ignore_index",
                "vocab_size", "projection_dim", "auto_map", *PASSED_OVER):  # fmt: skip
        said.take(key)
    seen, text = said.take("vision_config") or {}, said.take("text_config") or {}
    said.end(OF_LIBRARY)
    # Their own type is a name for BART.
    words = {**text, "model_type": "bart"}
    vision, places, moments = _davit(seen)
    return Florence2Config(
        vision=vision, reader=bart_of_json(words, "encoder"), words=bart_of_json(words, "decoder"),
        places=places, moments=moments,
    )  # fmt: skip


def _davit(content: Mapping[str, Any]) -> tuple[DaViTConfig, int, int]:
    """With how many places and moments there are."""
    said = PublishedConfig(content, "Florence-2's vision tower")
    passed = PASSED_OVER - {"max_position_embeddings"}
    for key in (*passed, "drop_path_rate", "projection_dim", "enable_checkpoint"):
        said.take(key)
    said.only("in_channels", 3)
    said.only("in_chans", 3)
    said.only("activation_function", "gelu")
    said.only("image_feature_source", ["spatial_avg_pool", "temporal_avg_pool"], None)
    # The authors' words for places.
    places = said.take("image_pos_embed") or {"max_pos_embeddings": 50}
    moments = said.take("visual_temporal_embedding") or {"max_temporal_embeddings": 100}
    usual = DaViTConfig()
    config = DaViTConfig(
        widths=tuple(said.take("embed_dim") or said.take("dim_embed") or usual.widths),
        depths=tuple(said.take("depths", usual.depths)),
        heads=tuple(said.take("num_heads", usual.heads)),
        groups=tuple(said.take("num_groups", usual.groups)),
        kernels=tuple(said.take("patch_size", usual.kernels)),
        strides=tuple(said.take("patch_stride", usual.strides)),
        paddings=tuple(said.take("patch_padding", usual.paddings)),
        norm_first=tuple(said.take("patch_prenorm", usual.norm_first)),
        window=said.take("window_size", 12),
        hidden_ratio=said.take("mlp_ratio", 4.0),
        qkv_bias=said.take("qkv_bias", True),
    )
    rows = said.take("max_position_embeddings", places["max_pos_embeddings"])
    counted = said.take("max_temporal_embeddings", moments["max_temporal_embeddings"])
    said.end(OF_LIBRARY)
    return config, rows, counted


def _words(config: Florence2Config, at: str, head: str) -> list[Rule]:
    bart = NAMINGS["bart"]
    return [
        Rule("language.embed_tokens.", f"{at}shared."),
        *bart.rules(config.words, "language.", f"{at}decoder.", head),
        *bart.rules(config.reader, "reader.", f"{at}encoder."),
    ]


def _hub(config: Florence2Config) -> list[Rule]:
    place = "model.multi_modal_projector."
    return [
        *_words(config, "model.language_model.", ""),
        Rule("vision.", "model.vision_tower."),
        Rule("projector.rows.", f"{place}image_position_embed.row_embeddings."),
        Rule("projector.columns.", f"{place}image_position_embed.column_embeddings."),
        Rule("projector.linear.", f"{place}image_projection."),
        Rule("projector.norm.", f"{place}image_proj_norm."),
        Rule("projector.moments", f"{place}visual_temporal_embed.pos_idx_to_embed"),
    ]


def _original(config: Florence2Config) -> list[Rule]:
    rules = [
        *_words(config, "language_model.model.", "language_model."),
        Rule("vision.", "vision_tower."),
        Rule("projector.rows.", "image_pos_embed.row_embeddings."),
        Rule("projector.columns.", "image_pos_embed.column_embeddings."),
        Rule("projector.linear.weight", "image_projection", TRANSPOSE),
        Rule("projector.norm.", "image_proj_norm."),
        Rule("projector.moments", "visual_temporal_embed.pos_idx_to_embed"),
    ]
    for stage, depth in enumerate(config.vision.depths):
        rules.append(Rule(f"vision.convs.{stage}.conv.", f"vision_tower.convs.{stage}.proj."))
        for i in range(depth):
            for half, look in (("spatial", "window_attn"), ("channel", "channel_attn")):
                at = f"blocks.{stage}.{i}.{half}_block."
                rules += [
                    Rule(f"vision.{at}{a}", f"vision_tower.{at}{b}")
                    for a, b in _halves(look).items()
                ]
    return rules


def _halves(look: str) -> dict[str, str]:
    """Each step stands within what adds it."""
    return {
        "conv1.": "conv1.fn.dw.", "conv2.": "conv2.fn.dw.", "norm1.": f"{look}.norm.",
        f"{look}.": f"{look}.fn.", "norm2.": "ffn.norm.", "ffn.": "ffn.fn.net.",
    }  # fmt: skip


def _settled(config: Florence2Config, header: Header) -> Florence2Config:
    """A head that is stored is another's words once more; it is read for itself."""
    tied = not any(name.endswith("lm_head.weight") for name in header)
    return replace(config, words=replace(config.words, tied=tied))


KINDS: dict[str, Kind] = {"florence2": Kind(Florence2, config_of_json, lambda config: "florence2")}
_TWICE = (r".*(en|de)coder\.embed_tokens\.weight", r".*final_logits_bias")
LAYOUTS = (
    Layout(
        "florence2, hub", "reader",
        ("model.multi_modal_projector.image_projection.weight",
         "model.language_model.shared.weight"),
        ("",), by_json, _hub, _TWICE, kind="florence2", settled=_settled,
    ),
    Layout(
        "florence2, original", "reader",
        ("image_projection", "language_model.model.shared.weight"),
        ("",), by_json, _original, _TWICE, kind="florence2", settled=_settled,
    ),
)  # fmt: skip
