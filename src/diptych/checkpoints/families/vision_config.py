"""Configs of vision towers as published `config.json`s say them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

from diptych.checkpoints.families.config_json import OF_LIBRARY, PublishedConfig
from diptych.foundation.errors import Unreadable
from diptych.models.clip import CLIP_TOWER
from diptych.models.clip_blocks import Activation
from diptych.models.siglip import SIGLIP_TOWER
from diptych.models.vision_tower import VisionTowerConfig

ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh",
}  # fmt: skip
# What a backbone's config says of its outputs.
_OF_OUTPUTS = frozenset({
    "apply_layernorm", "out_features", "out_indices", "reshape_hidden_states", "stage_names",
    "pooler_output_size",
})  # fmt: skip


def activation_taken(said: PublishedConfig, default: str) -> Activation:
    """Raises Unreadable for one that is not built here."""
    name = said.take("hidden_act", default)
    if name not in ACTIVATIONS:
        raise Unreadable(
            f"An encoder with hidden_act = {name!r} is not built here.",
            do=f"Known: {', '.join(ACTIVATIONS)}.",
        )
    return ACTIVATIONS[name]


def _side(said: PublishedConfig, key: str, default: int) -> int:
    value = said.take(key, default)
    sides = set(value) if isinstance(value, list | tuple) else {value}
    if len(sides) != 1:
        raise Unreadable(f"A vision tower with {key} = {value!r}, not square, is not built here.")
    return sides.pop()


def sized_tower(said: PublishedConfig, tower: VisionTowerConfig, act: str) -> VisionTowerConfig:
    """The tower with what all configs call alike; its own values are the defaults."""
    said.only("num_channels", 3)
    said.only("attention_dropout", 0.0, 0)
    return replace(
        tower,
        image_size=_side(said, "image_size", tower.image_size),
        patch_size=_side(said, "patch_size", tower.patch_size),
        width=said.take("hidden_size", tower.width),
        depth=said.take("num_hidden_layers", tower.depth),
        heads=said.take("num_attention_heads", tower.heads),
        hidden=said.take("intermediate_size", tower.hidden),
        activation=activation_taken(said, act),
        norm_epsilon=said.take("layer_norm_eps", tower.norm_epsilon),
    )


def clip_tower(said: PublishedConfig) -> VisionTowerConfig:
    said.take("projection_dim")  # of the space with texts, which the whole model's config decides
    return sized_tower(said, replace(CLIP_TOWER, patch_size=32), "quick_gelu")


def siglip_tower(said: PublishedConfig) -> VisionTowerConfig:
    pooling = "map" if said.take("vision_use_head", True) else "none"
    # What vision-language models say of the space behind their connector.
    said.take("projection_dim")
    said.take("num_image_tokens")
    said.take("projector_hidden_act")
    return replace(sized_tower(said, SIGLIP_TOWER, "gelu_pytorch_tanh"), pooling=pooling)


def _fractional(said: PublishedConfig) -> VisionTowerConfig:
    """Idefics3's and SmolVLM's; their configs also speak of tiles, which are cut before."""
    for key in ("size", "max_image_size", "use_base_siglip"):
        said.take(key)
    start = replace(SIGLIP_TOWER, image_size=224, patch_size=32, width=1152, heads=16)
    tower = sized_tower(said, start, "gelu_pytorch_tanh")
    return replace(tower, placing="fractional", pooling="none")


def _dino(said: PublishedConfig, registers: int) -> VisionTowerConfig:
    start = VisionTowerConfig(patch_size=16 if registers else 14)
    tower = sized_tower(said, start, "gelu")
    hidden = int(tower.width * said.take("mlp_ratio", 4))
    gated = said.take("use_swiglu_ffn", False)
    return replace(
        tower,
        # Two thirds, up to a multiple of 8 (Shazeer, 2020; the original code).
        hidden=(hidden * 2 // 3 + 7) // 8 * 8 if gated else hidden,
        feedforward="swiglu" if gated else "plain",
        layer_scale=float(said.take("layerscale_value", 1.0)),
        mask_token=said.take("use_mask_token", True),
        qkv_bias=said.take("qkv_bias", True),
        registers=said.take("num_register_tokens", registers) if registers else 0,
        placing="antialias" if registers else "bicubic",
    )


def _vit(said: PublishedConfig) -> VisionTowerConfig:
    said.only("pooler_act", "tanh")
    tower = sized_tower(said, VisionTowerConfig(norm_epsilon=1e-12, pooling="none"), "gelu")
    return replace(tower, qkv_bias=said.take("qkv_bias", True))


def _internvit(said: PublishedConfig) -> VisionTowerConfig:
    """Both the library's words and the original repository's."""
    said.only("use_absolute_position_embeddings", True)
    said.take("use_flash_attn")
    norm = {"layer_norm": "layer", "rms_norm": "rms"}[said.take("norm_type", "layer_norm")]
    start = VisionTowerConfig(
        image_size=448, patch_size=14, width=1024, depth=24, heads=16, hidden=4096
    )
    return replace(
        sized_tower(said, start, "gelu"),
        norm=cast(Any, norm),
        qkv_bias=said.take("attention_bias", said.take("qkv_bias", False)),
        qk_norm=said.take("use_qk_norm", said.take("qk_normalization", False)),
        layer_scale=said.take("layer_scale_init_value", said.take("initializer_factor", 0.1)),
        mask_token=said.take("use_mask_token", False),
        output_norm=not said.take("use_mean_pooling", True),
        pooling="none",
    )


_TOWERS: dict[str, Callable[[PublishedConfig], VisionTowerConfig]] = {
    "clip_vision_model": clip_tower,
    "dinov2": partial(_dino, registers=0),
    "dinov2_with_registers": partial(_dino, registers=4),
    # The older word for a part is that of the whole.
    "idefics3": _fractional,
    "idefics3_vision": _fractional,
    "intern_vit_6b": _internvit,
    "internvl_vision": _internvit,
    "siglip_vision_model": siglip_tower,
    "smolvlm": _fractional,
    "smolvlm_vision": _fractional,
    "vit": _vit,
}


def config_of_json(content: Mapping[str, Any], pooled: bool = False) -> VisionTowerConfig:
    """From a tower's config.json, told by its `model_type`; `pooled`: whether its file holds the
    pooling layer, which the config does not say. Raises Unreadable."""
    kind = content.get("model_type")
    if kind not in _TOWERS:
        raise Unreadable(
            f"A vision tower of the type {kind!r} is not built here.",
            do=f"Known: {', '.join(_TOWERS)}.",
        )
    said = PublishedConfig(content, f"A vision tower ({kind})")
    tower = _TOWERS[kind](said)
    said.end(OF_LIBRARY | _OF_OUTPUTS)
    return replace(tower, pooling="dense") if pooled else tower
