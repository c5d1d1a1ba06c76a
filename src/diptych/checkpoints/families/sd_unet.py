"""The U-Net of SD 1, SD 2 and SDXL: the published folder's names are ours; the original layout
(CompVis, Stability) numbers the blocks through."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from diptych.checkpoints.families.config_json import PublishedConfig, per_level
from diptych.checkpoints.header import Header
from diptych.checkpoints.rules import Rule
from diptych.foundation.errors import Unreadable
from diptych.models.unet import UNetConfig

_RESIDUAL = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
ENDS = {
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip


def family_of(config: UNetConfig) -> str:
    """SD 1 projects by convolutions, all later ones by linear maps; SDXL is told sizes beside,
    and its refiner reads one encoder of 1,280 channels where the base reads two."""
    if config.vector_width:
        return "sdxl-refiner" if config.context_width == 1280 else "sdxl"
    return "sd2" if config.linear_projection else "sd1"


def original_rules(config: UNetConfig) -> list[Rule]:
    """Our prefixes and those of the original layout, for this many levels and blocks."""
    return [Rule(f"{ours}.", f"{theirs}.") for ours, theirs in _pairs(config)]


def encoder_pairs(config: UNetConfig) -> Iterator[tuple[str, str]]:
    """The way down and the middle, ours and the original's, which a ControlNet has too."""
    blocks = config.blocks
    for i in range(len(config.depths)):
        for j in range(blocks):
            number = 1 + i * (blocks + 1) + j
            yield from _residual(f"down_blocks.{i}.resnets.{j}", f"input_blocks.{number}.0")
            yield f"down_blocks.{i}.attentions.{j}", f"input_blocks.{number}.1"
        number = (i + 1) * (blocks + 1)
        yield f"down_blocks.{i}.downsamplers.0.conv", f"input_blocks.{number}.0.op"
    yield from _residual("mid_block.resnets.0", "middle_block.0")
    yield "mid_block.attentions.0", "middle_block.1"
    yield from _residual("mid_block.resnets.1", "middle_block.2")


def _pairs(config: UNetConfig) -> Iterator[tuple[str, str]]:
    yield from ENDS.items()
    yield from encoder_pairs(config)
    levels, blocks = len(config.widths), config.blocks
    for i, depth in enumerate(config.depths):
        # On the way up the levels are counted from the smallest.
        up = levels - 1 - i
        for j in range(blocks + 1):
            number = up * (blocks + 1) + j
            yield from _residual(f"up_blocks.{up}.resnets.{j}", f"output_blocks.{number}.0")
            yield f"up_blocks.{up}.attentions.{j}", f"output_blocks.{number}.1"
        place = 2 if depth else 1
        number = up * (blocks + 1) + blocks
        yield f"up_blocks.{up}.upsamplers.0.conv", f"output_blocks.{number}.{place}.conv"


def _residual(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for part, name in _RESIDUAL.items():
        yield f"{ours}.{part}", f"{theirs}.{name}"


def config_of_json(content: Mapping[str, Any]) -> UNetConfig:
    """From the folder's config.json. Raises Unreadable for what is not built here, by name."""
    said = PublishedConfig(content, "A U-Net")
    config = config_taken(said)
    said.end()
    return config


def config_taken(said: PublishedConfig) -> UNetConfig:
    """What a config.json says of the U-Net; what it says besides is left."""
    widths = tuple(said.take("block_out_channels", (320, 640, 1280, 1280)))
    levels = len(widths)
    kinds = per_level(
        said.take("down_block_types", ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]), levels
    )
    known = {"CrossAttnDownBlock2D", "DownBlock2D"}
    for kind in set(kinds) - known:
        raise Unreadable(f"A U-Net with a {kind} is not built here.")
    depths = per_level(said.take("transformer_layers_per_block", 1), levels)
    # What the files call the width of a head is their number.
    heads = said.take("num_attention_heads") or said.take("attention_head_dim", 8)
    vector = said.take("projection_class_embeddings_input_dim") or 0
    for key in ("up_block_types", "attention_head_dim", "upcast_attention", "sample_size",
                "addition_time_embed_dim", "addition_embed_type_num_heads"):  # fmt: skip
        said.take(key)
    for key, values in _BUILT.items():
        said.only(key, *values)
    return UNetConfig(
        in_channels=said.take("in_channels", 4),
        out_channels=said.take("out_channels", 4),
        widths=widths,
        blocks=said.take("layers_per_block", 2),
        depths=tuple(
            depth if kind == "CrossAttnDownBlock2D" else 0
            for depth, kind in zip(depths, kinds, strict=True)
        ),
        mid_depth=depths[-1],
        heads=per_level(heads, levels),
        context_width=said.take("cross_attention_dim", 1280),
        linear_projection=said.take("use_linear_projection", False),
        vector_width=vector,
        groups=said.take("norm_num_groups", 32),
    )


# Keys that have one value here: the first where the key is not there.
_BUILT: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu",),
    "addition_embed_type": (None, "text_time"),
    "attention_type": ("default",),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "downsample_padding": (1,),
    "dropout": (0.0, 0),
    "flip_sin_to_cos": (True,),
    "freq_shift": (0,),
    "mid_block_scale_factor": (1, 1.0),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "norm_eps": (1e-5,),
    "only_cross_attention": (False,),
    "resnet_out_scale_factor": (1.0, 1),
    "resnet_skip_time_act": (False,),
    "resnet_time_scale_shift": ("default",),
    "time_embedding_type": ("positional",),
}


def config_of_original(header: Header) -> tuple[UNetConfig, dict[str, str]]:
    """From names and shapes of the original layout, without its prefix, and what was assumed."""
    levels: list[list[int]] = [[]]
    number = 1
    while any(name.startswith(f"input_blocks.{number}.") for name in header):
        if f"input_blocks.{number}.0.op.weight" in header:
            levels.append([])
        else:
            levels[-1].append(number)
        number += 1
    widths = tuple(
        header[f"input_blocks.{level[0]}.0.out_layers.3.weight"].shape[0] for level in levels
    )
    depths = tuple(
        _count(header, f"input_blocks.{level[0]}.1.transformer_blocks") for level in levels
    )
    keys = [name for name in header if name.endswith("attn2.to_k.weight")]
    projection = next(name for name in header if name.endswith(".1.proj_in.weight"))
    linear, context = len(header[projection].shape) == 2, header[keys[0]].shape[1]
    vector = header.get("label_emb.0.0.weight")
    channels, last = header["input_blocks.0.0.weight"].shape[1], header.get("out.2.weight")
    config = UNetConfig(
        in_channels=channels,
        out_channels=last.shape[0] if last else channels,  # a ControlNet has no way out
        widths=widths,
        blocks=len(levels[0]),
        depths=depths,
        mid_depth=_count(header, "middle_block.1.transformer_blocks"),
        heads=_heads(widths, linear),
        context_width=context,
        linear_projection=linear,
        vector_width=vector.shape[1] if vector else 0,
    )
    return config, _ASSUMED[linear]


def config_of_folder(header: Header) -> tuple[UNetConfig, dict[str, str]]:
    """From names and shapes of the published folder's layout, where its config.json is not at
    hand; a ControlNet's too, which has the way down and the middle."""
    levels = range(_count(header, "down_blocks"))
    first = [f"down_blocks.{level}" for level in levels]
    widths = tuple(header[f"{one}.resnets.0.conv1.weight"].shape[0] for one in first)
    depths = tuple(_count(header, f"{one}.attentions.0.transformer_blocks") for one in first)
    keys = next(name for name in header if name.endswith("attn2.to_k.weight"))
    linear = len(header["mid_block.attentions.0.proj_in.weight"].shape) == 2
    vector, last = header.get("add_embedding.linear_1.weight"), header.get("conv_out.weight")
    channels = header["conv_in.weight"].shape[1]
    config = UNetConfig(
        in_channels=channels,
        out_channels=last.shape[0] if last else channels,
        widths=widths,
        blocks=_count(header, "down_blocks.0.resnets"),
        depths=depths,
        mid_depth=_count(header, "mid_block.attentions.0.transformer_blocks"),
        heads=_heads(widths, linear),
        context_width=header[keys].shape[1],
        linear_projection=linear,
        vector_width=vector.shape[1] if vector else 0,
    )
    return config, _ASSUMED[linear]


def _heads(widths: tuple[int, ...], linear: bool) -> tuple[int, ...]:
    return tuple(width // 64 for width in widths) if linear else (8,) * len(widths)


_ASSUMED = {
    linear: {
        "heads": "64 channels each" if linear else "8",
        "groups of a norm": "32",
        "prediction": "eps",
    }
    for linear in (False, True)
}


def _count(header: Header, prefix: str) -> int:
    """How many numbered parts there are below a prefix."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return len({match[1] for name in header if (match := pattern.match(name))})
