"""Lumina-Next and Lumina-Image 2: folders, and the original layouts, which name parts alike. In
that of Lumina-Next one query looks at patches and words, in that of Lumina-Image 2 query, key and
value are one matrix of unequal parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from diptych.checkpoints.families.config_json import PublishedConfig, count_of
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Layout, by_json, no_rules
from diptych.checkpoints.rules import Rule
from diptych.models.lumina2 import LUMINA2, Lumina2Config
from diptych.models.lumina_next import LUMINA_NEXT, LuminaNextConfig

# Depth and heads of those that were published, by width: a file cut short does not pass for a
# smaller one.
_NEXT = {LUMINA_NEXT.width: (LUMINA_NEXT.depth, LUMINA_NEXT.heads)}
_TWO = {LUMINA2.width: (LUMINA2.depth, LUMINA2.heads)}
_ENDS = {
    "time_caption_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_caption_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_caption_embed.caption_embedder": "cap_embedder",
    "norm_out.linear_1": "final_layer.adaLN_modulation.1",
    "norm_out.linear_2": "final_layer.linear",
}
_BLOCK = {
    "norm1.linear": "adaLN_modulation.1", "norm1.norm": "attention_norm1",
    "norm2": "attention_norm2", "feed_forward.linear_1": "feed_forward.w1",
    "feed_forward.linear_2": "feed_forward.w2", "feed_forward.linear_3": "feed_forward.w3",
}  # fmt: skip
_NEXT_BLOCK = _BLOCK | {
    "attn1.to_q": "attention.wq", "attn1.to_k": "attention.wk", "attn1.to_v": "attention.wv",
    "attn1.norm_q": "attention.q_norm", "attn1.norm_k": "attention.k_norm",
    # The words are looked at with the same query.
    "attn2.to_q": "attention.wq", "attn2.norm_q": "attention.q_norm",
    "attn2.to_k": "attention.wk_y", "attn2.to_v": "attention.wv_y",
    "attn2.norm_k": "attention.ky_norm", "attn2.to_out.0": "attention.wo",
    "norm1_context": "attention_y_norm",
}  # fmt: skip
_TWO_BLOCK = _BLOCK | {
    "attn.norm_q": "attention.q_norm", "attn.norm_k": "attention.k_norm",
    "attn.to_out.0": "attention.out",
}  # fmt: skip


def next_rules(config: LuminaNextConfig) -> list[Rule]:
    """Our prefixes and those of Lumina-Next's original layout."""
    rules = [Rule(f"{ours}.", f"{theirs}.") for ours, theirs in _ENDS.items()]
    rules.append(Rule("patch_embedder.proj.", "x_embedder."))
    for i in range(config.depth):
        rules.append(Rule(f"layers.{i}.gate", f"layers.{i}.attention.gate"))
        for ours, theirs in _NEXT_BLOCK.items():
            rules.append(Rule(f"layers.{i}.{ours}.", f"layers.{i}.{theirs}."))
    return rules


def lumina2_rules(config: Lumina2Config) -> list[Rule]:
    """Our prefixes and those of Lumina-Image 2's original layout."""
    rules = [Rule(f"{ours}.", f"{theirs}.") for ours, theirs in _ENDS.items()]
    shares = (config.heads, config.groups, config.groups)
    for block in _blocks(config):
        for ours, theirs in _TWO_BLOCK.items():
            rules.append(Rule(f"{block}.{ours}.", f"{block}.{theirs}."))
        if block.startswith("context"):  # told no time, its norm is a plain one
            rules.append(Rule(f"{block}.norm1.", f"{block}.attention_norm1."))
        for part, name in enumerate(("q", "k", "v")):
            place, whole = f"{block}.attn.to_{name}.weight", f"{block}.attention.qkv.weight"
            rules.append(Rule(place, whole, part=part, parts=3, shares=shares))
    return rules


def _blocks(config: Lumina2Config) -> Iterator[str]:
    yield from (f"layers.{i}" for i in range(config.depth))
    for kind in ("noise", "context"):
        yield from (f"{kind}_refiner.{i}" for i in range(config.refiners))


def _hidden(said: PublishedConfig, wanted: int) -> int:
    """Of the feed-forward layers: a factor, and rounded up to a multiple."""
    factor, multiple = said.take("ffn_dim_multiplier"), said.take("multiple_of", 256)
    return -(-int(wanted * (1 if factor is None else factor)) // multiple) * multiple


def next_of_json(content: Mapping[str, Any]) -> LuminaNextConfig:
    """From the folder's config.json. Raises Unreadable for what is not built here, by name."""
    said = PublishedConfig(content, "A Lumina-Next")
    said.only("qk_norm", True)
    said.only("scaling_factor", 1.0, 1)
    width, channels = said.take("hidden_size", 2304), said.take("in_channels", 4)
    heads = said.take("num_attention_heads", 32)
    config = LuminaNextConfig(
        in_channels=channels,
        out_channels=channels * (1 + said.take("learn_sigma", True)),
        patch_size=said.take("patch_size", 2),
        side=said.take("sample_size", 128),
        width=width,
        depth=said.take("num_layers", 32),
        heads=heads,
        groups=said.take("num_kv_heads") or heads,
        hidden=_hidden(said, int(8 * width / 3)),
        context_width=said.take("cross_attention_dim", 2048),
        norm_epsilon=said.take("norm_eps", 1e-5),
    )
    said.end()
    return config


def lumina2_of_json(content: Mapping[str, Any]) -> Lumina2Config:
    """From the folder's config.json. Raises Unreadable for what is not built here, by name."""
    said = PublishedConfig(content, "A Lumina-Image 2")
    said.only("scaling_factor", 1.0, 1)
    said.take("axes_lens")  # places are made as they are needed
    width, channels = said.take("hidden_size", 2304), said.take("in_channels", 16)
    config = Lumina2Config(
        in_channels=channels,
        out_channels=said.take("out_channels") or channels,
        patch_size=said.take("patch_size", 2),
        side=said.take("sample_size", 128),
        width=width,
        depth=said.take("num_layers", 26),
        refiners=said.take("num_refiner_layers", 2),
        heads=said.take("num_attention_heads", 24),
        groups=said.take("num_kv_heads", 8),
        hidden=_hidden(said, 4 * width),
        context_width=said.take("cap_feat_dim", 1024),
        axes=tuple(said.take("axes_dim_rope", (32, 32, 32))),
        norm_epsilon=said.take("norm_eps", 1e-5),
    )
    said.end()
    return config


def next_of_original(header: Header) -> tuple[LuminaNextConfig, dict[str, str]]:
    """From names and shapes of the original layout, and what was assumed."""
    width, values = header["x_embedder.weight"].shape
    known = (count_of(header, "layers"), header["layers.0.attention.gate"].shape[0])
    depth, heads = _NEXT.get(width, known)
    patch = LUMINA_NEXT.patch_size
    config = LuminaNextConfig(
        in_channels=values // patch**2,
        out_channels=header["final_layer.linear.weight"].shape[0] // patch**2,
        width=width,
        depth=depth,
        heads=heads,
        groups=header["layers.0.attention.wk.weight"].shape[0] * heads // width,
        hidden=header["layers.0.feed_forward.w1.weight"].shape[0],
        context_width=header["cap_embedder.0.weight"].shape[0],
    )
    return config, {"size": "1,024 pixels", "patches": f"{patch} cells wide"}


def lumina2_of_original(header: Header) -> tuple[Lumina2Config, dict[str, str]]:
    """From names and shapes of the original layout, and what was assumed."""
    width, values = header["x_embedder.weight"].shape
    head_dim = header["layers.0.attention.q_norm.weight"].shape[0]
    depth, heads = _TWO.get(width, (count_of(header, "layers"), width // head_dim))
    fused, patch = header["layers.0.attention.qkv.weight"].shape[0], LUMINA2.patch_size
    config = Lumina2Config(
        in_channels=values // patch**2,
        out_channels=header["final_layer.linear.weight"].shape[0] // patch**2,
        width=width,
        depth=depth,
        refiners=max(1, count_of(header, "noise_refiner")),
        heads=heads,
        groups=(fused - width) // (2 * head_dim),
        hidden=header["layers.0.feed_forward.w1.weight"].shape[0],
        context_width=header["cap_embedder.0.weight"].shape[0],
        axes=(head_dim - 2 * (head_dim // 6 * 2), head_dim // 6 * 2, head_dim // 6 * 2),
    )
    assumed = {"size": "1,024 pixels", "patches": f"{patch} cells wide"}
    return config, assumed | {"axes of a head": ", ".join(map(str, config.axes))}


def _folder(marks: tuple[str, ...], kind: str) -> Layout:
    return Layout("folder", "transformer", marks, ("",), by_json, no_rules, kind=kind)


_TIME = "time_caption_embed.timestep_embedder.linear_1.weight"
LAYOUTS = (
    Layout(
        "original",
        "transformer",
        ("cap_embedder.0.weight", "noise_refiner.0.attention.qkv.weight"),
        ("model.diffusion_model.", ""),
        lumina2_of_original,
        lumina2_rules,
        (r"norm_final\.weight",),  # read by nothing
        kind="lumina2",
    ),
    Layout(
        "original",
        "transformer",
        ("cap_embedder.0.weight", "layers.0.attention.wk_y.weight"),
        ("model.diffusion_model.", ""),
        next_of_original,
        next_rules,
        kind="lumina-next",
    ),
    _folder((_TIME, "noise_refiner.0.attn.to_q.weight"), "lumina2"),
    _folder((_TIME, "layers.0.attn2.to_k.weight"), "lumina-next"),
)
