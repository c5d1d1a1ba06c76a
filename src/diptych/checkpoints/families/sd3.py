"""The transformer of SD3 and 3.5: folders, and the original layout (Stability), in which query, key
and value are one matrix and the halves of what modulates the last norms lie the other way round."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import isqrt
from typing import Any

from diptych.checkpoints.families.config_json import PublishedConfig
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Layout, by_json, no_rules
from diptych.checkpoints.rules import SWAP_HALVES, Rule
from diptych.foundation.errors import Unreadable
from diptych.models.sd3 import SD3Config

_ENDS = {
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "proj_out": "final_layer.linear",
}
_SWAPPED = {"norm_out.linear": "final_layer.adaLN_modulation.1"}
_PICTURE = {
    "norm1.linear": "adaLN_modulation.1", "attn.to_out.0": "attn.proj", "attn.norm_q": "attn.ln_q",
    "attn.norm_k": "attn.ln_k", "attn2.to_out.0": "attn2.proj", "attn2.norm_q": "attn2.ln_q",
    "attn2.norm_k": "attn2.ln_k", "ff.net.0.proj": "mlp.fc1", "ff.net.2": "mlp.fc2",
}  # fmt: skip
_WORDS = {
    "norm1_context.linear": "adaLN_modulation.1", "attn.to_add_out": "attn.proj",
    "attn.norm_added_q": "attn.ln_q", "attn.norm_added_k": "attn.ln_k",
    "ff_context.net.0.proj": "mlp.fc1", "ff_context.net.2": "mlp.fc2",
}  # fmt: skip
# Ours, and the matrix of theirs whose parts they are.
_FUSED = {
    "attn.to_{}": "x_block.attn.qkv", "attn2.to_{}": "x_block.attn2.qkv",
    "attn.add_{}_proj": "context_block.attn.qkv",
}  # fmt: skip


def family_of(config: SD3Config) -> str:
    """3.5 norms queries and keys, and its medium size looks at the picture twice. The turbo of
    3.5 large has the shapes of large."""
    if not config.normed:
        return "sd3"
    return "sd3.5-medium" if config.dual else "sd3.5-large"


def original_rules(config: SD3Config) -> list[Rule]:
    """Our prefixes and those of the original layout."""
    rules = [Rule(f"{ours}.", f"{theirs}.") for ours, theirs in _pairs(config.depth)]
    rules.append(Rule("pos_embed.pos_embed", "pos_embed"))
    last = f"transformer_blocks.{config.depth - 1}.norm1_context.linear"
    swapped = _SWAPPED | {last: f"joint_blocks.{config.depth - 1}.context_block.adaLN_modulation.1"}
    rules += [Rule(f"{ours}.", f"{theirs}.", SWAP_HALVES) for ours, theirs in swapped.items()]
    for i in range(config.depth):
        for ours, theirs in _FUSED.items():
            for part, name in enumerate(("q", "k", "v")):
                for leaf in ("weight", "bias"):
                    place = f"transformer_blocks.{i}.{ours.format(name)}.{leaf}"
                    whole = f"joint_blocks.{i}.{theirs}.{leaf}"
                    rules.append(Rule(place, whole, part=part, parts=3))
    return rules


def _pairs(depth: int) -> Iterator[tuple[str, str]]:
    yield from _ENDS.items()
    for i in range(depth):
        for ours, theirs in _PICTURE.items():
            yield f"transformer_blocks.{i}.{ours}", f"joint_blocks.{i}.x_block.{theirs}"
        for ours, theirs in _WORDS.items():
            if (i, ours) != (depth - 1, "norm1_context.linear"):
                yield f"transformer_blocks.{i}.{ours}", f"joint_blocks.{i}.context_block.{theirs}"


def config_of_json(content: Mapping[str, Any]) -> SD3Config:
    """From the folder's config.json. Raises Unreadable for what is not built here, by name."""
    said = PublishedConfig(content, "A transformer of SD3")
    said.take("sample_size")
    said.only("qk_norm", None, "rms_norm")
    heads, head_dim = said.take("num_attention_heads", 18), said.take("attention_head_dim", 64)
    said.only("caption_projection_dim", heads * head_dim)
    channels = said.take("in_channels", 16)
    config = SD3Config(
        in_channels=channels,
        out_channels=said.take("out_channels", 16) or channels,
        patch_size=said.take("patch_size", 2),
        depth=said.take("num_layers", 18),
        heads=heads,
        head_dim=head_dim,
        context_width=said.take("joint_attention_dim", 4096),
        pooled_width=said.take("pooled_projection_dim", 2048),
        positions=said.take("pos_embed_max_size", 96),
        normed=content.get("qk_norm") is not None,
        dual=tuple(said.take("dual_attention_layers", ())),
    )
    said.end()
    return config


def config_of_original(header: Header) -> tuple[SD3Config, dict[str, str]]:
    """From names and shapes of the original layout, without its prefix, and what was assumed.

    Heads have 64 channels, and there are as many as blocks: so it was published. Raises Unreadable
    for places that are not those of a square.
    """
    width, channels, patch, _ = header["x_embedder.proj.weight"].shape
    places = header["pos_embed"].shape[1]
    if isqrt(places) ** 2 != places:
        raise Unreadable(f"SD3 with {places} places, which are no square, is not built here.")
    dual = {
        int(match[1])
        for name in header
        if (match := re.match(r"joint_blocks\.(\d+)\.x_block\.attn2\.", name))
    }
    config = SD3Config(
        in_channels=channels,
        out_channels=header["final_layer.linear.weight"].shape[0] // patch**2,
        patch_size=patch,
        depth=width // 64,
        heads=width // 64,
        context_width=header["context_embedder.weight"].shape[1],
        pooled_width=header["y_embedder.mlp.0.weight"].shape[1],
        positions=isqrt(places),
        normed="joint_blocks.0.x_block.attn.ln_q.weight" in header,
        dual=tuple(sorted(dual)),
    )
    assumed = {"heads": "64 channels each"}
    if family_of(config) == "sd3.5-large":
        assumed["steps and guidance"] = "those of large: its turbo looks the same"
    return config, assumed


LAYOUTS = (
    Layout(
        "original",
        "transformer",
        ("joint_blocks.0.x_block.attn.qkv.weight", "final_layer.linear.weight", "pos_embed"),
        ("model.diffusion_model.", ""),
        config_of_original,
        original_rules,
        kind="sd3",
    ),
    Layout(
        "folder",
        "transformer",
        ("transformer_blocks.0.attn.add_q_proj.weight", "pos_embed.proj.weight"),
        ("",),
        by_json,
        no_rules,
        kind="sd3",
    ),
)
