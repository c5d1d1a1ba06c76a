"""Vision towers that stand alone: their configs, from `config.json` or from names and shapes, and
their layouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

from diptych.checkpoints.families import vision_names as names
from diptych.checkpoints.families.config_json import OF_LIBRARY, PublishedConfig, count_of
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Kind, Known, Layout, by_json
from diptych.foundation.errors import Unreadable
from diptych.models.clip import CLIP_TOWER
from diptych.models.clip_blocks import Activation
from diptych.models.siglip import SIGLIP_TOWER
from diptych.models.vision_tower import VisionTower, VisionTowerConfig

ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh",
}  # fmt: skip
# What a backbone's config says of its outputs.
_OF_OUTPUTS = frozenset({
    "apply_layernorm", "out_features", "out_indices", "reshape_hidden_states", "stage_names",
    "pooler_output_size",
})  # fmt: skip
# Channels of a head where they are not 64, by width.
_HEAD_DIMS = {1152: 72, 1280: 80, 1408: 88, 1664: 104, 3200: 128}
# Layers of those that were published, by width: a file cut short does not pass for a smaller one.
_DEPTHS = {384: 12, 768: 12, 1024: 24, 1152: 27, 1280: 32, 1408: 40, 1536: 40, 1664: 48}


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


def _sized(said: PublishedConfig, tower: VisionTowerConfig, act: str) -> VisionTowerConfig:
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
    return _sized(said, replace(CLIP_TOWER, patch_size=32), "quick_gelu")


def siglip_tower(said: PublishedConfig) -> VisionTowerConfig:
    pooling = "map" if said.take("vision_use_head", True) else "none"
    # What vision-language models say of the space behind their connector.
    said.take("projection_dim")
    said.take("num_image_tokens")
    said.take("projector_hidden_act")
    return replace(_sized(said, SIGLIP_TOWER, "gelu_pytorch_tanh"), pooling=pooling)


def _fractional(said: PublishedConfig) -> VisionTowerConfig:
    """Idefics3's and SmolVLM's; their configs also speak of tiles, which are cut before."""
    for key in ("size", "max_image_size", "use_base_siglip"):
        said.take(key)
    start = replace(SIGLIP_TOWER, image_size=224, patch_size=32, width=1152, heads=16)
    tower = _sized(said, start, "gelu_pytorch_tanh")
    return replace(tower, placing="fractional", pooling="none")


def _dino(said: PublishedConfig, registers: int) -> VisionTowerConfig:
    start = VisionTowerConfig(patch_size=16 if registers else 14)
    tower = _sized(said, start, "gelu")
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
    tower = _sized(said, VisionTowerConfig(norm_epsilon=1e-12, pooling="none"), "gelu")
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
        _sized(said, start, "gelu"),
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
    "idefics3_vision": _fractional,
    "intern_vit_6b": _internvit,
    "internvl_vision": _internvit,
    "siglip_vision_model": siglip_tower,
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


def clip_like(header: Header, tower: VisionTowerConfig) -> VisionTowerConfig:
    """`tower` with the sizes that a header of CLIP's or SigLIP's names tells, prefix taken off.
    Raises Unreadable for patches that are no squares: SigLIP 2 of any size."""
    patches = header["embeddings.patch_embedding.weight"].shape
    if len(patches) != 4:
        raise Unreadable("This is SigLIP 2 of any size (NaFlex), which is not built here yet.")
    return sized(
        tower,
        patches,
        header["embeddings.position_embedding.weight"].shape[0],
        depth=count_of(header, "encoder.layers"),
        hidden=header["encoder.layers.0.mlp.fc1.weight"].shape[0],
    )


def sized(
    tower: VisionTowerConfig, patches: tuple[int, ...], places: int, *, depth: int, hidden: int
) -> VisionTowerConfig:
    """`tower` with these sizes; `patches`: shape of the convolution; `places`: class and grid."""
    width, _, patch, _ = patches
    side = round((places - tower.class_token) ** 0.5)
    return replace(
        tower,
        image_size=side * patch,
        patch_size=patch,
        width=width,
        depth=_DEPTHS.get(width, depth),
        heads=heads_of(width),
        hidden=hidden,
    )


def heads_of(width: int) -> int:
    """As published towers of this width have them."""
    return max(1, width // _HEAD_DIMS.get(width, 64))


def _siglip_of_header(header: Header) -> Known:
    pooling = "map" if "head.probe" in header else "none"
    config = clip_like(header, replace(SIGLIP_TOWER, pooling=pooling))
    return config, {"heads": str(config.heads), "activation": config.activation}


def _timm_of_header(header: Header) -> Known:
    """DINOv2's original files, or timm's SigLIP towers."""
    gated, query = "blocks.0.mlp.w12.weight" in header, "attn_pool.latent" in header
    scaled, registers = "blocks.0.ls1.gamma" in header, header.get("register_tokens")
    tower = SIGLIP_TOWER if query else VisionTowerConfig()
    first = header["blocks.0.mlp.w12.weight" if gated else "blocks.0.mlp.fc1.weight"].shape[0]
    config = sized(
        replace(
            tower,
            feedforward="swiglu" if gated else "plain",
            layer_scale=float(scaled),
            mask_token="mask_token" in header,
            registers=registers.shape[1] if registers else 0,
            qkv_bias="blocks.0.attn.qkv.bias" in header,
            placing="antialias" if registers else tower.placing,
        ),
        header["patch_embed.proj.weight"].shape,
        header["pos_embed"].shape[1],
        depth=count_of(header, "blocks"),
        hidden=first // 2 if gated else first,
    )
    return config, {"heads": str(config.heads), "norm epsilon": str(config.norm_epsilon)}


KINDS = {
    "vision_tower": Kind(VisionTower, config_of_json, lambda config: "vision-tower"),
    "vision_tower_pooled": Kind(
        VisionTower, partial(config_of_json, pooled=True), lambda config: "vision-tower"
    ),
}


def _layout(
    name: str, marks: tuple[str, ...], rules: names.Rules, *prefixes: str, kind: str = ""
) -> Layout:
    return Layout(name, "vision_tower", marks, (*prefixes, ""), by_json, rules, (), kind)


_QUERY = "attention.attention.query.weight"
_POOLER = "pooler.dense.weight"
_VIT = ("encoder.layer.0.layernorm_before.weight", f"encoder.layer.0.{_QUERY}")
_VIT_NATIVE = ("layers.0.layernorm_before.weight", "layers.0.attention.q_proj.weight")
_DINO = ("dinov2.", "dinov2_with_registers.")
LAYOUTS: tuple[Layout, ...] = (
    _layout(
        "DINOv2",
        ("encoder.layer.0.layer_scale1.lambda1", f"encoder.layer.0.{_QUERY}"),
        names.dino_folder_names,
        *_DINO,
    ),
    _layout(
        "DINOv2, newer names",
        ("encoder.layer.0.layer_scale1.lambda1", "encoder.layer.0.attention.q_proj.weight"),
        names.dino_names,
        *_DINO,
    ),
    _layout(
        "ViT, pooled", (*_VIT, _POOLER), names.vit_folder_names, "vit.", kind="vision_tower_pooled"
    ),
    _layout("ViT", _VIT, names.vit_folder_names, "vit."),
    _layout(
        "ViT, newer names, pooled",
        (*_VIT_NATIVE, _POOLER),
        names.vit_names,
        "vit.",
        kind="vision_tower_pooled",
    ),
    _layout("ViT, newer names", _VIT_NATIVE, names.vit_names, "vit."),
    _layout(
        "InternViT",
        ("embeddings.cls_token", "encoder.layer.0.attention.projection_layer.weight"),
        names.internvit_names,
    ),
    _layout(
        "InternViT, original",
        ("embeddings.class_embedding", "encoder.layers.0.ls1", "encoder.layers.0.attn.qkv.weight"),
        names.internvit_original_names,
    ),
    Layout(
        "SigLIP",
        "vision_tower",
        ("embeddings.patch_embedding.bias", "encoder.layers.0.layer_norm1.weight",
         "post_layernorm.weight"),
        ("vision_model.", ""),
        _siglip_of_header,
        names.clip_names,
        (r"embeddings\.position_ids",),
    ),
    *(
        Layout(
            name,
            "vision_tower",
            ("blocks.0.attn.qkv.weight", "patch_embed.proj.weight", "pos_embed", mark),
            ("",),
            _timm_of_header,
            names.timm_names,
        )
        for name, mark in (("DINOv2, original", "cls_token"), ("timm", "attn_pool.latent"))
    ),
)  # fmt: skip
