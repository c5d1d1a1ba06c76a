"""DiT: folders, which store the embedder of time and class once in every block, and the original
layout, in which query, key and value are one matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isqrt
from typing import Any

from torch import Tensor

from diptych.checkpoints.families.config_json import PublishedConfig, count_of
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Layout, by_json
from diptych.checkpoints.rules import Rule
from diptych.foundation.errors import Unreadable
from diptych.models.dit import DiTConfig
from diptych.nn.positions import sine_grid

# Depth and heads of those that were published, by width: a file cut short does not pass for a
# smaller one.
_SIZES = {1152: (28, 16), 1024: (24, 16), 768: (12, 12), 384: (12, 6)}
_ORIGINAL = {
    "emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "emb.class_embedder.embedding_table": "y_embedder.embedding_table",
    "pos_embed.proj": "x_embedder.proj",
    "proj_out_1": "final_layer.adaLN_modulation.1",
    "proj_out_2": "final_layer.linear",
}
_BLOCK = {
    "norm1.linear": "adaLN_modulation.1", "attn1.to_out.0": "attn.proj",
    "ff.net.0.proj": "mlp.fc1", "ff.net.2": "mlp.fc2",
}  # fmt: skip


def folder_rules(config: DiTConfig) -> list[Rule]:
    """The one embedder lies in all of the blocks."""
    first, *others = (f"transformer_blocks.{i}.norm1.emb." for i in range(config.depth))
    return [Rule("emb.", first, also=tuple(others))]


def original_rules(config: DiTConfig) -> list[Rule]:
    rules = [Rule(f"{ours}.", f"{theirs}.") for ours, theirs in _pairs(config.depth)]
    for i in range(config.depth):
        for part, name in enumerate(("q", "k", "v")):
            for leaf in ("weight", "bias"):
                ours = f"transformer_blocks.{i}.attn1.to_{name}.{leaf}"
                rules.append(Rule(ours, f"blocks.{i}.attn.qkv.{leaf}", part=part, parts=3))
    return rules


def _pairs(depth: int) -> Iterator[tuple[str, str]]:
    yield from _ORIGINAL.items()
    for i in range(depth):
        for ours, theirs in _BLOCK.items():
            yield f"transformer_blocks.{i}.{ours}", f"blocks.{i}.{theirs}"


def config_of_json(content: Mapping[str, Any]) -> DiTConfig:
    """From the folder's config.json. Raises Unreadable for what is not built here, by name.

    Its `norm_eps` is passed over: it is a default of the library that wrote the folder, and no
    such model was trained with it (`DiTConfig`).
    """
    said = PublishedConfig(content, "A DiT")
    for key, values in _BUILT.items():
        said.only(key, *values)
    for key in ("norm_num_groups", "norm_eps"):
        said.take(key)
    heads = said.take("num_attention_heads", 16)
    channels = said.take("in_channels", 4)
    config = DiTConfig(
        in_channels=channels,
        out_channels=said.take("out_channels") or channels,
        patch_size=said.take("patch_size", 2),
        side=said.take("sample_size", 32),
        width=heads * said.take("attention_head_dim", 72),
        depth=said.take("num_layers", 28),
        heads=heads,
        classes=said.take("num_embeds_ada_norm", 1000),
    )
    said.end()
    return config


# Keys that have one value here: the first where the key is not there. The rest are those of the
# class under which such folders were written at first.
_BUILT: dict[str, tuple[Any, ...]] = {
    "activation_fn": ("gelu-approximate",),
    "attention_bias": (True,),
    "attention_type": ("default",),
    "cross_attention_dim": (None,),
    "double_self_attention": (False,),
    "dropout": (0.0, 0),
    "norm_elementwise_affine": (False,),
    "norm_type": ("ada_norm_zero",),
    "num_vector_embeds": (None,),
    "only_cross_attention": (False,),
    "upcast_attention": (False,),
    "use_linear_projection": (False,),
}


def places_of(config: DiTConfig) -> dict[str, Tensor]:
    """What the original layout stores and we make anew."""
    cells = config.side // config.patch_size
    return {"pos_embed": sine_grid(config.width, cells, cells, cells)[None]}


def config_of_original(header: Header) -> tuple[DiTConfig, dict[str, str]]:
    """From names and shapes of the original layout, and what was assumed.

    The places are stored there, and tell the size of the pictures. Raises Unreadable where they
    are not those of a square.
    """
    width, channels, patch, _ = header["x_embedder.proj.weight"].shape
    cells = header["pos_embed"].shape[1]
    side = isqrt(cells)
    if side * side != cells:
        raise Unreadable(f"A DiT of {cells} places, which are no square, is not built here.")
    depth, heads = _SIZES.get(width, (count_of(header, "blocks"), max(1, width // 64)))
    config = DiTConfig(
        in_channels=channels,
        out_channels=header["final_layer.linear.weight"].shape[0] // patch**2,
        patch_size=patch,
        side=side * patch,
        width=width,
        depth=depth,
        heads=heads,
        classes=header["y_embedder.embedding_table.weight"].shape[0] - 1,
    )
    return config, {"heads": str(config.heads), "prediction": "eps"}


LAYOUTS = (
    Layout(
        "original",
        "transformer",
        ("y_embedder.embedding_table.weight", "x_embedder.proj.weight", "pos_embed"),
        ("",),
        config_of_original,
        original_rules,
        (r"pos_embed",),
        kind="dit",
        made=places_of,
    ),
    Layout(
        "folder",
        "transformer",
        ("transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight",),
        ("",),
        by_json,
        folder_rules,
        (r"pos_embed\.pos_embed",),
        kind="dit",
    ),
)
