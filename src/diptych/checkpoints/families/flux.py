"""FLUX.1's transformer: folders, and the original layout (Black Forest Labs), in which query, key
and value are one matrix, in the later blocks with the MLP's first map, and the halves of what
modulates the last norm lie the other way round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diptych.checkpoints.families.config_json import PublishedConfig, count_of
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Layout, by_json, no_rules
from diptych.checkpoints.rules import SWAP_HALVES, Rule
from diptych.foundation.errors import Unreadable
from diptych.models.flux import FLUX_DEV, PATCH, FluxConfig

_ENDS = {
    "x_embedder": "img_in", "context_embedder": "txt_in", "proj_out": "final_layer.linear",
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
}  # fmt: skip
_DOUBLE = {
    "norm1.linear": "img_mod.lin", "norm1_context.linear": "txt_mod.lin",
    "attn.norm_q.weight": "img_attn.norm.query_norm.scale",
    "attn.norm_k.weight": "img_attn.norm.key_norm.scale",
    "attn.norm_added_q.weight": "txt_attn.norm.query_norm.scale",
    "attn.norm_added_k.weight": "txt_attn.norm.key_norm.scale",
    "attn.to_out.0": "img_attn.proj", "attn.to_add_out": "txt_attn.proj",
    "ff.net.0.proj": "img_mlp.0", "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0", "ff_context.net.2": "txt_mlp.2",
}  # fmt: skip
_SINGLE = {
    "norm.linear": "modulation.lin", "proj_out": "linear2",
    "attn.norm_q.weight": "norm.query_norm.scale", "attn.norm_k.weight": "norm.key_norm.scale",
}  # fmt: skip
# Ours, and the matrix of theirs whose parts they are: of linear1 the last is four times as large.
_FUSED = {"attn.to_{}": "img_attn.qkv", "attn.add_{}_proj": "txt_attn.qkv"}
_LINEAR1 = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
_SHARES = (1, 1, 1, 4)


def family_of(config: FluxConfig) -> str:
    """By what comes in beside the latent: nothing, a latent of a map, or a picture with a mask;
    schnell is told no guidance."""
    if config.in_channels == config.out_channels:
        return "flux-dev" if config.guidance else "flux-schnell"
    return "flux-control" if config.in_channels == 2 * config.out_channels else "flux-fill"


def original_rules(config: FluxConfig) -> list[Rule]:
    """Our prefixes and those of the original layout."""
    rules = [Rule(ours, theirs) for ours, theirs in _pairs(config)]
    rules.append(Rule("norm_out.linear.", "final_layer.adaLN_modulation.1.", SWAP_HALVES))
    for i in range(config.depth):
        for ours, theirs in _FUSED.items():
            parts = [f"transformer_blocks.{i}.{ours.format(name)}" for name in "qkv"]
            rules += _joined(parts, f"double_blocks.{i}.{theirs}")
    for i in range(config.single_depth):
        parts = [f"single_transformer_blocks.{i}.{name}" for name in _LINEAR1]
        rules += _joined(parts, f"single_blocks.{i}.linear1", _SHARES)
    return rules


def _joined(ours: list[str], theirs: str, shares: tuple[int, ...] = ()) -> Iterator[Rule]:
    for part, place in enumerate(ours):
        for leaf in ("weight", "bias"):
            yield Rule(
                f"{place}.{leaf}", f"{theirs}.{leaf}", part=part, parts=len(ours), shares=shares
            )


def _pairs(config: FluxConfig) -> Iterator[tuple[str, str]]:
    yield from ((f"{ours}.", f"{theirs}.") for ours, theirs in _ENDS.items())
    for names, ours, theirs, depth in (
        (_DOUBLE, "transformer_blocks", "double_blocks", config.depth),
        (_SINGLE, "single_transformer_blocks", "single_blocks", config.single_depth),
    ):
        for i in range(depth):
            yield from ((f"{ours}.{i}.{a}", f"{theirs}.{i}.{b}") for a, b in names.items())


def config_of_json(content: Mapping[str, Any]) -> FluxConfig:
    """From the folder's config.json. Raises Unreadable for what is not built here, by name."""
    said = PublishedConfig(content, "A transformer of FLUX")
    said.only("patch_size", 1)
    channels = said.take("in_channels", 64)
    axes = tuple(said.take("axes_dims_rope", (16, 56, 56)))
    said.only("attention_head_dim", sum(axes))
    config = FluxConfig(
        in_channels=_cells(channels),
        out_channels=_cells(said.take("out_channels") or channels),
        depth=said.take("num_layers", 19),
        single_depth=said.take("num_single_layers", 38),
        heads=said.take("num_attention_heads", 24),
        axes=axes,
        context_width=said.take("joint_attention_dim", 4096),
        pooled_width=said.take("pooled_projection_dim", 768),
        guidance=said.take("guidance_embeds", False),
    )
    said.end()
    return config


def config_of_original(header: Header) -> tuple[FluxConfig, dict[str, str]]:
    """From names and shapes of the original layout, without its prefix, and what was assumed."""
    width, channels = header["img_in.weight"].shape
    # A file cut short does not pass for a smaller model: of this width 8 double blocks (a lighter
    # FLUX) or 19 were published.
    depth, single = count_of(header, "double_blocks"), count_of(header, "single_blocks")
    if width == FLUX_DEV.width:
        depth, single = 8 if depth == 8 else FLUX_DEV.depth, FLUX_DEV.single_depth
    config = FluxConfig(
        in_channels=_cells(channels),
        out_channels=_cells(header["final_layer.linear.weight"].shape[0]),
        depth=depth,
        single_depth=single,
        heads=max(1, width // FLUX_DEV.head_dim),
        context_width=header["txt_in.weight"].shape[1],
        pooled_width=header["vector_in.in_layer.weight"].shape[1],
        guidance="guidance_in.in_layer.weight" in header,
    )
    return config, {"heads": "128 channels each, turned by 16, 56 and 56"}


def _cells(channels: int) -> int:
    """Channels of a latent whose tokens have so many. Raises Unreadable."""
    if channels % PATCH**2:
        raise Unreadable(f"FLUX with tokens of {channels} channels is not built here.")
    return channels // PATCH**2


LAYOUTS = (
    Layout(
        "original",
        "transformer",
        ("double_blocks.0.img_attn.qkv.weight", "final_layer.linear.weight", "img_in.weight"),
        ("model.diffusion_model.", ""),
        config_of_original,
        original_rules,
        kind="flux",
    ),
    Layout(
        "folder",
        "transformer",
        ("single_transformer_blocks.0.attn.to_q.weight", "x_embedder.weight"),
        ("",),
        by_json,
        no_rules,
        kind="flux",
    ),
)
