"""Vision towers that stand alone: their configs from names and shapes, and their layouts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from diptych.checkpoints.families import vision_names as names
from diptych.checkpoints.families.config_json import count_of
from diptych.checkpoints.families.vision_config import config_of_json
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Kind, Known, Layout, by_json
from diptych.foundation.errors import Unreadable
from diptych.models.siglip import SIGLIP_TOWER
from diptych.models.vision_tower import VisionTower, VisionTowerConfig

# Channels of a head where they are not 64, by width.
_HEAD_DIMS = {1152: 72, 1280: 80, 1408: 88, 1664: 104, 3200: 128}
# Pixels of a side that no number of patches fills, by patches and pixels of one. (OpenCLIP has some
# of 378 pixels, which are named alike.)
_SIDES = {(27, 14): 384}
# Layers of those that were published, by width: a file cut short does not pass for a smaller one.
_DEPTHS = {384: 12, 768: 12, 1024: 24, 1152: 27, 1280: 32, 1408: 40, 1536: 40, 1664: 48}


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
        image_size=_SIDES.get((side, patch), side * patch),
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
    return config, assumed_of(config)


def assumed_of(config: VisionTowerConfig) -> dict[str, str]:
    """What names and shapes do not tell of a tower of SigLIP's."""
    return {
        "heads": str(config.heads),
        "activation": config.activation,
        "image size": str(config.image_size),
    }


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
        "DINOv2 in newer names",
        ("encoder.layer.0.layer_scale1.lambda1", "encoder.layer.0.attention.q_proj.weight"),
        names.dino_names,
        *_DINO,
    ),
    _layout(
        "pooled ViT", (*_VIT, _POOLER), names.vit_folder_names, "vit.", kind="vision_tower_pooled"
    ),
    _layout("ViT", _VIT, names.vit_folder_names, "vit."),
    _layout(
        "pooled ViT in newer names",
        (*_VIT_NATIVE, _POOLER),
        names.vit_names,
        "vit.",
        kind="vision_tower_pooled",
    ),
    _layout("ViT in newer names", _VIT_NATIVE, names.vit_names, "vit."),
    _layout(
        "InternViT",
        ("embeddings.cls_token", "encoder.layer.0.attention.projection_layer.weight"),
        names.internvit_names,
    ),
    _layout(
        "original InternViT",
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
        for name, mark in (("original DINOv2", "cls_token"), ("timm", "attn_pool.latent"))
    ),
)  # fmt: skip
