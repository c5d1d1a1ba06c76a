"""The KL autoencoder of Stable Diffusion and FLUX: folders, folders of before 2023, and the
original layout, whose decoder counts its levels from the smallest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from diptych.checkpoints.families.config_json import PublishedConfig
from diptych.checkpoints.header import Header
from diptych.checkpoints.rules import SQUEEZE, Rule
from diptych.models.autoencoder_sd import FLUX_VAE, AutoencoderSDConfig

_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def original_rules(levels: int, blocks: int) -> list[Rule]:
    """`levels` of `blocks` residual blocks each in the encoder, one more in the decoder."""
    return [Rule(f"{ours}.", f"{theirs}.", op) for ours, theirs, op in _pairs(levels, blocks)]


def _pairs(levels: int, blocks: int) -> Iterator[tuple[str, str, str]]:
    for half, more in (("encoder", 0), ("decoder", 1)):
        for i in range(levels):
            theirs = f"{half}.down.{i}" if half == "encoder" else f"{half}.up.{levels - 1 - i}"
            ours = f"{half}.{'up' if more else 'down'}_blocks.{i}"
            for j in range(blocks + more):
                yield (
                    f"{ours}.resnets.{j}.conv_shortcut",
                    f"{theirs}.block.{j}.nin_shortcut",
                    "same",
                )
                yield f"{ours}.resnets.{j}", f"{theirs}.block.{j}", "same"
            if more:
                yield f"{ours}.upsamplers.0.conv", f"{theirs}.upsample.conv", "same"
            else:
                yield f"{ours}.downsamplers.0.conv", f"{theirs}.downsample.conv", "same"
        for j in range(2):
            yield f"{half}.mid_block.resnets.{j}", f"{half}.mid.block_{j + 1}", "same"
        for ours, theirs in _ATTENTION.items():
            place = f"{half}.mid_block.attentions.0.{ours}"
            op = "same" if theirs == "norm" else SQUEEZE
            yield place, f"{half}.mid.attn_1.{theirs}", op
        yield f"{half}.conv_norm_out", f"{half}.norm_out", "same"


def old_folder_rules() -> list[Rule]:
    """Folders written before the attention was renamed."""
    return [
        Rule(f"{half}.mid_block.attentions.0.{ours}.", f"{half}.mid_block.attentions.0.{theirs}.")
        for half in ("encoder", "decoder")
        for ours, theirs in _OLD_ATTENTION.items()
    ]


def config_of_json(content: Mapping[str, Any]) -> AutoencoderSDConfig:
    """From the folder's config.json. Raises Unreadable for what is not built here, by name."""
    said = PublishedConfig(content, "An autoencoder")
    for key in ("sample_size", "force_upcast"):
        said.take(key)
    said.only("latents_mean", None)
    said.only("latents_std", None)
    said.only("act_fn", "silu")
    said.only("mid_block_add_attention", True)
    said.only("out_channels", content.get("in_channels", 3))
    widths = tuple(said.take("block_out_channels", (64,)))
    said.only("down_block_types", ["DownEncoderBlock2D"] * len(widths))
    said.only("up_block_types", ["UpDecoderBlock2D"] * len(widths))
    quantized = said.take("use_quant_conv", True)
    said.only("use_post_quant_conv", quantized)
    config = AutoencoderSDConfig(
        image_channels=said.take("in_channels", 3),
        latent_channels=said.take("latent_channels", 4),
        widths=widths,
        blocks=said.take("layers_per_block", 1),
        groups=said.take("norm_num_groups", 32),
        quant_convs=quantized,
        shift=said.take("shift_factor") or 0.0,
        scale=said.take("scaling_factor", 0.18215),
    )
    said.end()
    return config


def config_of_original(header: Header) -> tuple[AutoencoderSDConfig, dict[str, str]]:
    """From names and shapes of the original layout, without its prefix, and what was assumed."""
    levels = _numbers(header, r"encoder\.down\.(\d+)\.")
    config = AutoencoderSDConfig(
        latent_channels=header["decoder.conv_in.weight"].shape[1],
        widths=tuple(
            header[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in range(len(levels))
        ),
        blocks=len(_numbers(header, r"encoder\.down\.0\.block\.(\d+)\.")),
        quant_convs="quant_conv.weight" in header,
    )
    said = f"{config.scale:g}"
    if config.latent_channels == FLUX_VAE.latent_channels:
        config = replace(config, scale=FLUX_VAE.scale, shift=FLUX_VAE.shift)
        said = f"{config.scale:g}, shift {config.shift:g}: FLUX's, whose shapes are SD3's too"
    return config, {"scale": said, "groups of a norm": "32"}


def _numbers(header: Header, pattern: str) -> Sequence[int]:
    found = re.compile(pattern)
    return sorted({int(match[1]) for name in header if (match := found.match(name))})
