"""PixArt-alpha and PixArt-Sigma: folders, and the original layout, in which query, key and value
are one matrix, and key and value of the words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isqrt
from typing import Any

from torch import Tensor

from diptych.checkpoints.families.config_json import PublishedConfig, count_of
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Layout, by_json, no_rules
from diptych.checkpoints.rules import Rule
from diptych.models.pixart import PIXART_SIGMA, PixArtConfig
from diptych.nn.positions import sine_grid

# Depth and heads of those that were published, by width: a file cut short does not pass for a
# smaller one.
_SIZES = {1152: (28, 16)}
_FIRST_SIDE = 64  # of the latents that the places were first trained at
_ENDS = {
    "pos_embed.proj": "x_embedder.proj", "proj_out": "final_layer.linear",
    "caption_projection.linear_1": "y_embedder.y_proj.fc1",
    "caption_projection.linear_2": "y_embedder.y_proj.fc2",
    "adaln_single.linear": "t_block.1",
}  # fmt: skip
_EMBEDDERS = {"timestep": "t", "resolution": "csize", "aspect_ratio": "ar"}
_BLOCK = {
    "attn1.to_out.0": "attn.proj", "attn2.to_q": "cross_attn.q_linear",
    "attn2.to_out.0": "cross_attn.proj", "ff.net.0.proj": "mlp.fc1", "ff.net.2": "mlp.fc2",
}  # fmt: skip
# Theirs, and which of ours are its parts.
_FUSED = {
    "attn.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "cross_attn.kv_linear": ("attn2.to_k", "attn2.to_v"),
}


def family_of(config: PixArtConfig) -> str:
    """Alpha of 1024 pixels is told its size. That of 512 and smaller has the shapes of Sigma, for
    which it is taken where nothing else is said."""
    return "pixart-alpha" if config.sizes else "pixart-sigma"


def original_rules(config: PixArtConfig) -> list[Rule]:
    """Our prefixes and those of the original layout."""
    rules = [Rule(f"{ours}.", f"{theirs}.") for ours, theirs in _pairs(config.depth)]
    rules.append(Rule("scale_shift_table", "final_layer.scale_shift_table"))
    for i in range(config.depth):
        ours, theirs = f"transformer_blocks.{i}", f"blocks.{i}"
        rules.append(Rule(f"{ours}.scale_shift_table", f"{theirs}.scale_shift_table"))
        for whole, names in _FUSED.items():
            for part, name in enumerate(names):
                for leaf in ("weight", "bias"):
                    place, of = f"{ours}.{name}.{leaf}", f"{theirs}.{whole}.{leaf}"
                    rules.append(Rule(place, of, part=part, parts=len(names)))
    return rules


def _pairs(depth: int) -> Iterator[tuple[str, str]]:
    yield from _ENDS.items()
    for ours, theirs in _EMBEDDERS.items():
        place = f"adaln_single.emb.{ours}_embedder"
        yield f"{place}.linear_1", f"{theirs}_embedder.mlp.0"
        yield f"{place}.linear_2", f"{theirs}_embedder.mlp.2"
    for i in range(depth):
        for ours, theirs in _BLOCK.items():
            yield f"transformer_blocks.{i}.{ours}", f"blocks.{i}.{theirs}"


def config_of_json(content: Mapping[str, Any]) -> PixArtConfig:
    """From the folder's config.json, whose class may be that of before 2024. Raises Unreadable
    for what is not built here, by name."""
    said = PublishedConfig(content, "A PixArt")
    for key, values in _BUILT.items():
        said.only(key, *values)
    for key in ("norm_num_groups", "num_embeds_ada_norm", "attention_type"):
        said.take(key)
    heads, head_dim = said.take("num_attention_heads", 16), said.take("attention_head_dim", 72)
    said.only("cross_attention_dim", heads * head_dim)
    channels, side = said.take("in_channels", 4), said.take("sample_size", 128)
    sizes = said.take("use_additional_conditions")
    config = PixArtConfig(
        in_channels=channels,
        out_channels=said.take("out_channels", 8) or channels,
        patch_size=said.take("patch_size", 2),
        side=side,
        # Whole, at least 1: so the library has it where nothing is said.
        interpolation=float(said.take("interpolation_scale") or max(side // _FIRST_SIDE, 1)),
        width=heads * head_dim,
        depth=said.take("num_layers", 28),
        heads=heads,
        context_width=said.take("caption_channels", 4096),
        sizes=side == 128 if sizes is None else sizes,
    )
    said.end()
    return config


# Keys that have one value here: the first where the key is not there. The rest are those of the
# class under which such folders were written at first.
_BUILT: dict[str, tuple[Any, ...]] = {
    "activation_fn": ("gelu-approximate",),
    "attention_bias": (True,),
    "double_self_attention": (False,),
    "dropout": (0.0, 0),
    "norm_elementwise_affine": (False,),
    "norm_eps": (1e-6,),
    "norm_type": ("ada_norm_single",),
    "num_vector_embeds": (None,),
    "only_cross_attention": (False,),
    "upcast_attention": (False,),
    "use_linear_projection": (False,),
}


def places_of(config: PixArtConfig) -> dict[str, Tensor]:
    """What the original layout stores and we make anew."""
    cells = config.side // config.patch_size
    places = sine_grid(config.width, cells, cells, cells, config.interpolation)
    return {"pos_embed": places[None]}


def config_of_original(header: Header) -> tuple[PixArtConfig, dict[str, str]]:
    """From names and shapes of the original layout, and what was assumed. The places, where they
    are stored, tell the size of the pictures."""
    width, channels, patch, _ = header["x_embedder.proj.weight"].shape
    depth, heads = _SIZES.get(width, (count_of(header, "blocks"), max(1, width // 64)))
    places, sizes = header.get("pos_embed"), "csize_embedder.mlp.0.weight" in header
    side = isqrt(places.shape[1]) * patch if places else PIXART_SIGMA.side
    config = PixArtConfig(
        in_channels=channels,
        out_channels=header["final_layer.linear.weight"].shape[0] // patch**2,
        patch_size=patch,
        side=side,
        interpolation=side / _FIRST_SIDE,
        width=width,
        depth=depth,
        heads=heads,
        context_width=header["y_embedder.y_proj.fc1.weight"].shape[1],
        sizes=sizes,
    )
    assumed = {"heads": str(heads), "prediction": "eps"}
    if not places:
        assumed["size"] = "1,024 pixels, for no places are stored"
    if not sizes:
        assumed["family"] = "Sigma: alpha of 512 pixels and fewer has the same shapes"
    return config, assumed


LAYOUTS = (
    Layout(
        "original",
        "transformer",
        ("y_embedder.y_proj.fc1.weight", "t_block.1.weight", "final_layer.scale_shift_table"),
        ("model.diffusion_model.", ""),
        config_of_original,
        original_rules,
        # Where a picture begins without words; guidance takes the empty text instead.
        (r"y_embedder\.y_embedding", r"pos_embed"),
        kind="pixart",
        made=places_of,
    ),
    Layout(
        "folder",
        "transformer",
        ("adaln_single.linear.weight", "caption_projection.linear_1.weight"),
        ("",),
        by_json,
        no_rules,
        (r"pos_embed\.pos_embed", r"caption_projection\.y_embedding"),
        kind="pixart",
    ),
)
