"""What shows pictures to a U-Net: ControlNets in both layouts, the Union, T2I- and IP-Adapters, and
the picture encoder of the latter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from diptych.checkpoints.families.config_json import PublishedConfig
from diptych.checkpoints.families.sd_unet import (
    ENDS,
    config_of_folder,
    config_of_original,
    config_taken,
    encoder_pairs,
)
from diptych.checkpoints.families.vision import heads_of
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Kind, Known, Layout, no_rules
from diptych.checkpoints.rules import Rule
from diptych.foundation.errors import Unreadable
from diptych.models.clip_vision import CLIPVision, CLIPVisionConfig
from diptych.models.controlnet import ControlNet, ControlNetConfig
from diptych.models.controlnet_union import ControlNetUnion, ControlNetUnionConfig
from diptych.models.ip_adapter import IPAdapter, IPAdapterConfig
from diptych.models.t2i_adapter import T2IAdapter, T2IAdapterConfig

_HINT = "controlnet_cond_embedding"


def controlnet_rules(config: ControlNetConfig) -> list[Rule]:
    """The original layout, whose hint is one long sequence of convolutions and SiLUs."""
    pairs = [(ours, theirs) for ours, theirs in ENDS.items() if not ours.startswith("conv_")]
    pairs += [("conv_in", "input_blocks.0.0"), *encoder_pairs(config.unet)]
    count = 2 * (len(config.hint_widths) - 1)
    pairs += [(f"{_HINT}.conv_in", "input_hint_block.0")]
    pairs += [(f"{_HINT}.blocks.{i}", f"input_hint_block.{2 * i + 2}") for i in range(count)]
    pairs += [(f"{_HINT}.conv_out", f"input_hint_block.{2 * count + 2}")]
    states = len(config.unet.state_widths)
    pairs += [(f"controlnet_down_blocks.{i}", f"zero_convs.{i}.0") for i in range(states)]
    pairs += [("controlnet_mid_block", "middle_block_out.0")]
    return [Rule(f"{ours}.", f"{theirs}.") for ours, theirs in pairs]


def _controlnet_of_original(header: Header) -> Known:
    unet, assumed = config_of_original(header)
    channels = header["input_hint_block.0.weight"].shape[1]
    # The last of them is what the hint becomes.
    last = max(int(name.split(".")[1]) for name in header if name.startswith("input_hint_block."))
    widths = tuple(header[f"input_hint_block.{i}.weight"].shape[0] for i in range(0, last, 4))
    return ControlNetConfig(unet=unet, hint_channels=channels, hint_widths=widths), assumed


def _controlnet_of_folder(header: Header) -> Known:
    unet, assumed = config_of_folder(header)
    first = header[f"{_HINT}.conv_in.weight"].shape
    blocks = [f"{_HINT}.blocks.{i}.weight" for i in range(1, 64, 2)]
    widths = (first[0], *(header[name].shape[0] for name in blocks if name in header))
    return ControlNetConfig(unet=unet, hint_channels=first[1], hint_widths=widths), assumed


def _controlnet_of_json(content: Mapping[str, Any]) -> ControlNetConfig:
    said = PublishedConfig(content, "A ControlNet")
    config = _control(said)
    said.end()
    return config


def _control(said: PublishedConfig, hints: tuple[int, ...] = (16, 32, 96, 256)) -> ControlNetConfig:
    hints = said.take("conditioning_embedding_out_channels", hints)
    channels = said.take("conditioning_channels", 3)
    said.only("controlnet_conditioning_channel_order", "rgb")
    said.only("global_pool_conditions", False)
    return ControlNetConfig(
        unet=config_taken(said), hint_channels=channels, hint_widths=tuple(hints)
    )


def _union_of_json(content: Mapping[str, Any]) -> ControlNetUnionConfig:
    said = PublishedConfig(content, "A ControlNet Union")
    kind_width = content.get("addition_time_embed_dim") or 256
    config = ControlNetUnionConfig(
        kinds=said.take("num_control_type", 6),
        width=said.take("num_trans_channel", 320),
        heads=said.take("num_trans_head", 8),
        depth=said.take("num_trans_layer", 1),
        kind_width=kind_width,
        control=_control(said, (48, 96, 192, 384)),
    )
    said.only("num_proj_channel", config.width)
    said.end()
    return config


def _union_of_folder(header: Header) -> Known:
    control, assumed = _controlnet_of_folder(header)
    kinds, width = header["task_embedding"].shape
    told = header["control_add_embedding.linear_1.weight"].shape[1]
    config = ControlNetUnionConfig(
        control=control,
        kinds=kinds,
        kind_width=told // kinds,
        width=width,
        depth=len({name.split(".")[1] for name in header if name.startswith("transformer_layes.")}),
    )
    return config, assumed


def _t2i_of_json(content: Mapping[str, Any]) -> T2IAdapterConfig:
    said = PublishedConfig(content, "A T2I-Adapter")
    kind = said.take("adapter_type", "full_adapter")
    if kind not in _T2I:
        raise Unreadable(f"A T2I-Adapter of the type {kind!r} is not built here.")
    config = T2IAdapterConfig(
        channels=said.take("in_channels", 3),
        widths=tuple(said.take("channels", (320, 640, 1280, 1280))),
        blocks=said.take("num_res_blocks", 2),
        factor=said.take("downscale_factor", 8),
        kind=_T2I[kind],
    )
    said.end()
    return config


_T2I: dict[str, Literal["full", "xl", "light"]] = {
    "full_adapter": "full",
    "full_adapter_xl": "xl",
    "light_adapter": "light",
}


def _t2i_of_header(header: Header) -> Known:
    """One channel or three times 8 x 8 or 16 x 16 pixels a cell; SDXL's have the larger cells."""
    cells = header["adapter.conv_in.weight"].shape[1]
    factor, channels = {192: (8, 3), 64: (8, 1), 768: (16, 3), 256: (16, 1)}[cells]
    levels = 1 + max(int(name.split(".")[2]) for name in header if name.startswith("adapter.body."))
    widths = tuple(
        header[f"adapter.body.{i}.resnets.0.block1.weight"].shape[0] for i in range(levels)
    )
    blocks = len(
        {name.split(".")[4] for name in header if name.startswith("adapter.body.0.resnets")}
    )
    kind = "xl" if factor == 16 else "full"
    config = T2IAdapterConfig(
        channels=channels, widths=widths, blocks=blocks, factor=factor, kind=kind
    )
    return config, {"kind": f"{kind}, for its cells are {factor} pixels wide"}


def _ip_of_header(header: Header) -> Known:
    numbers = sorted(
        int(found[1]) for name in header if (found := re.match(r"ip_adapter\.(\d+)\.to_k_ip", name))
    )
    keys = [header[f"ip_adapter.{number}.to_k_ip.weight"].shape for number in numbers]
    widths, context = tuple(shape[0] for shape in keys), keys[0][1]
    kind = _IP[next(mark for mark in _IP if f"image_proj.{mark}" in header)]
    if any("perceiver_resampler." in name for name in header):
        raise Unreadable(
            "An IP-Adapter that reads a face and its picture (FaceID Plus) is not built here yet."
        )
    shapes = {name.removeprefix("image_proj."): one.shape for name, one in header.items()}
    config = IPAdapterConfig(kind=kind, context_width=context, widths=widths)
    if kind == "plus":
        _, tokens, hidden = shapes["latents"]
        layers = {name.split(".")[1] for name in shapes if name.startswith("layers.")}
        heads = shapes["layers.0.0.to_q.weight"][0] // 64
        config = replace(config, depth=len(layers), heads=heads)
        width = shapes["proj_in.weight"][1]
    elif kind == "plain":
        out, width = shapes["proj.weight"]
        tokens, hidden = out // context, config.hidden
    else:
        hidden, width = shapes["proj.0.weight"]
        tokens = shapes["proj.2.weight"][0] // context
    return replace(config, input_width=width, tokens=tokens, hidden=hidden), {}


# By the first of these that a file has.
_IP: dict[str, Literal["plain", "full", "plus", "face"]] = {
    "latents": "plus", "proj.3.weight": "full", "proj.0.weight": "face", "proj.weight": "plain",
}  # fmt: skip


def _vision_of_json(content: Mapping[str, Any]) -> CLIPVisionConfig:
    said = PublishedConfig(content, "A CLIP image encoder")
    said.only("num_channels", 3)
    said.only("attention_dropout", 0.0, 0)
    for key in ("architectures", "dtype", "torch_dtype", "transformers_version", "dropout",
                "initializer_factor", "initializer_range", "model_type", "use_cache"):  # fmt: skip
        said.take(key)
    projects = "CLIPVisionModelWithProjection" in (content.get("architectures") or ())
    projection = said.take("projection_dim", 512)
    config = CLIPVisionConfig(
        image_size=said.take("image_size", 224),
        patch=said.take("patch_size", 32),
        width=said.take("hidden_size", 768),
        depth=said.take("num_hidden_layers", 12),
        heads=said.take("num_attention_heads", 12),
        hidden=said.take("intermediate_size", 3072),
        activation=said.take("hidden_act", "quick_gelu"),
        norm_epsilon=said.take("layer_norm_eps", 1e-5),
        projection=projection if projects else 0,
    )
    said.end()
    return config


def _vision_of_header(header: Header) -> Known:
    """H's heads have 80 channels, bigG's 104, all others 64."""
    short = {name.removeprefix("vision_model."): one.shape for name, one in header.items()}
    width, _, patch, _ = short["embeddings.patch_embedding.weight"]
    projection = short.get("visual_projection.weight", (0,))[0]
    side = round((short["embeddings.position_embedding.weight"][0] - 1) ** 0.5)
    activation = "quick_gelu" if projection == 768 else "gelu"
    config = CLIPVisionConfig(
        image_size=side * patch,
        patch=patch,
        width=width,
        depth=len({n.split(".")[2] for n in short if n.startswith("encoder.layers.")}),
        heads=heads_of(width),
        hidden=short["encoder.layers.0.mlp.fc1.weight"][0],
        activation=activation,
        projection=projection,
    )
    return config, {"heads": str(config.heads), "activation": activation}


_VISION_PARTS = ("embeddings.", "pre_layrnorm.", "encoder.", "post_layernorm.")

KINDS: dict[str, Kind] = {
    "controlnet": Kind(ControlNet, _controlnet_of_json),
    "controlnet_union": Kind(ControlNetUnion, _union_of_json),
    "t2i_adapter": Kind(T2IAdapter, _t2i_of_json),
    "ip_adapter": Kind(IPAdapter, lambda content: _none("An IP-Adapter")),
    "image_encoder": Kind(CLIPVision, _vision_of_json),
}


def _none(what: str) -> Any:
    raise Unreadable(f"{what} has no config.json.", do="Name its file.")


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "folder",
        "controlnet_union",
        (f"{_HINT}.conv_in.weight", "task_embedding", "controlnet_mid_block.weight"),
        ("",),
        _union_of_folder,
        no_rules,
    ),
    Layout(
        "folder",
        "controlnet",
        (f"{_HINT}.conv_in.weight", "controlnet_mid_block.weight"),
        ("",),
        _controlnet_of_folder,
        no_rules,
    ),
    Layout(
        "original",
        "controlnet",
        ("input_hint_block.0.weight", "middle_block_out.0.weight"),
        ("control_model.", ""),
        _controlnet_of_original,
        controlnet_rules,
    ),
    Layout("folder", "t2i_adapter", ("adapter.conv_in.weight",), ("",), _t2i_of_header, no_rules),
    Layout(
        "light",
        "t2i_adapter",
        ("adapter.body.0.in_conv.weight", "adapter.body.0.out_conv.weight"),
        ("",),
        lambda header: _none("A light T2I-Adapter"),
        no_rules,
    ),
    Layout(
        "IP-Adapter",
        "ip_adapter",
        ("ip_adapter.1.to_k_ip.weight",),
        ("",),
        _ip_of_header,
        no_rules,
        # A LoRA, which checkpoints.adapters.faces reads.
        (r"ip_adapter\.\d+\.to_(q|k|v|out)_lora\.(down|up)\.weight",),
    ),
    Layout(
        "with vision_model",
        "image_encoder",
        ("vision_model.embeddings.patch_embedding.weight", "vision_model.pre_layrnorm.weight"),
        ("",),
        _vision_of_header,
        lambda config: [Rule(part, f"vision_model.{part}") for part in _VISION_PARTS],
        (r"vision_model\.embeddings\.position_ids", r"logit_scale"),
    ),
    Layout(
        "folder",
        "image_encoder",
        ("embeddings.patch_embedding.weight", "pre_layrnorm.weight"),
        ("",),
        _vision_of_header,
        no_rules,
        (r"embeddings\.position_ids",),
    ),
)
