"""The config of a vision tower, as the folder of a larger model holds it, and its other names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diptych.checkpoints.families.config_json import PublishedConfig
from diptych.checkpoints.families.decoder import PASSED_OVER
from diptych.checkpoints.rules import ONE_BEFORE, SAME, TWO_BEFORE, Rule
from diptych.foundation.errors import Unreadable
from diptych.models.vision_tower import TowerConfig

_SIGLIP = {
    "activation": "gelu_tanh", "norm_epsilon": 1e-6, "class_token": False, "patch_bias": True,
    "pre_norm": False,
}  # fmt: skip
# Ours, and theirs of a config that says less.
_KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "clip_vision_model": ({}, {"width": 768, "depth": 12, "heads": 12, "patch": 32,
                               "hidden": 3072, "image_size": 224}),
    "siglip_vision_model": (_SIGLIP, {"width": 768, "depth": 12, "heads": 12, "patch": 16,
                                      "hidden": 3072, "image_size": 224}),
    "idefics3_vision": (_SIGLIP, {"width": 1152, "depth": 12, "heads": 16, "patch": 32,
                                  "hidden": 3072, "image_size": 224}),
    "internvl_vision": (
        {"activation": "gelu", "norm_epsilon": 1e-6, "patch_bias": True, "pre_norm": False,
         "scaled": True},
        {"width": 1024, "depth": 24, "heads": 16, "patch": 14, "hidden": 4096, "image_size": 448},
    ),
}  # fmt: skip
_KINDS["smolvlm_vision"] = _KINDS["idefics3_vision"]
_KINDS["idefics3"] = _KINDS["idefics3_vision"]
_ACTIVATIONS = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}


def tower_of_json(
    content: Mapping[str, Any], *, layer: int = -1, post_norm: bool = True, kind: str = ""
) -> TowerConfig:
    """From a `vision_config`; `layer` and `post_norm`: which states the model around it takes.
    Raises Unreadable for what is not built here, by name."""
    kind = content.get("model_type", kind)
    if kind not in _KINDS:
        raise Unreadable(
            f"A vision tower of type {kind!r} is not built here.",
            do=f"Built are: {', '.join(_KINDS)}.",
        )
    flags, usual = _KINDS[kind]
    said = PublishedConfig(content, f"A vision tower ({kind})")
    for key in (*PASSED_OVER, "projection_dim", "attention_dropout", "hidden_dropout_prob",
                "projection_dropout", "dropout", "layer_scale_init_value", "vision_use_head",
                "use_base_siglip", "size", "max_image_size", "vocab_size"):  # fmt: skip
        said.take(key)
    said.only("num_channels", 3)
    said.only("use_mask_token", False)
    said.only("use_qk_norm", False)
    said.only("use_mean_pooling", True)
    said.only("use_absolute_position_embeddings", True)
    said.only("norm_type", "layer_norm")
    named = said.take("hidden_act")
    if named is not None and named not in _ACTIVATIONS:
        raise Unreadable(f"A vision tower with hidden_act = {named!r} is not built here.")
    changed: dict[str, Any] = {} if named is None else {"activation": _ACTIVATIONS[named]}
    epsilon = said.take("layer_norm_eps")
    changed |= {} if epsilon is None else {"norm_epsilon": epsilon}
    if kind == "internvl_vision":
        changed["bias"] = said.take("attention_bias", False)
    config = TowerConfig(
        image_size=_side(said.take("image_size", usual["image_size"])),
        patch=_side(said.take("patch_size", usual["patch"])),
        width=said.take("hidden_size", usual["width"]),
        depth=said.take("num_hidden_layers", usual["depth"]),
        heads=said.take("num_attention_heads", usual["heads"]),
        hidden=said.take("intermediate_size", usual["hidden"]),
        layer=layer,
        post_norm=post_norm,
        **(flags | changed),
    )
    said.end()
    return config


def _side(value: int | list[int]) -> int:
    if isinstance(value, int):
        return value
    if len(set(value)) != 1:
        raise Unreadable(f"A vision tower for pictures of {value} is not built here.")
    return value[0]


def intern_rules(ours: str, theirs: str, depth: int) -> list[Rule]:
    """InternViT's names below two prefixes."""
    rules = [Rule(f"{ours}{mine}", f"{theirs}{their}", op) for mine, their, op in _INTERN_FRONT]
    for i in range(depth):
        mine, their = f"{ours}encoder.layers.{i}.", f"{theirs}encoder.layer.{i}."
        rules += [Rule(f"{mine}{a}", f"{their}{b}") for a, b in _INTERN.items()]
    return rules


_INTERN_FRONT = (
    ("embeddings.class_embedding", "embeddings.cls_token", TWO_BEFORE),
    ("embeddings.patch_embedding.", "embeddings.patch_embeddings.projection.", SAME),
    ("embeddings.position_embedding.weight", "embeddings.position_embeddings", ONE_BEFORE),
)
_INTERN = {
    "": "", "scale1": "lambda_1", "scale2": "lambda_2", "layer_norm1.": "layernorm_before.",
    "layer_norm2.": "layernorm_after.", "self_attn.": "attention.",
    "self_attn.out_proj.": "attention.projection_layer.",
}  # fmt: skip
