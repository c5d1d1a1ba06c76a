"""The U-Net without words (DDPM, ADM): folders, and those of before the attention was renamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diptych.checkpoints.families.config_json import PublishedConfig
from diptych.checkpoints.layout import Layout, by_json, no_rules
from diptych.checkpoints.rules import Rule
from diptych.foundation.errors import Unreadable
from diptych.models.unet_adm import UNetADMConfig

_OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
# Kinds of levels: whether cells look at each other, and whether sizes change in residual blocks,
# where the kind says so.
_LEVELS: dict[str, tuple[bool, bool | None]] = {
    "DownBlock2D": (False, False),
    "AttnDownBlock2D": (True, None),
    "ResnetDownsampleBlock2D": (False, True),
}


def family_of(config: UNetADMConfig) -> str:
    return "adm" if config.scale_shift else "ddpm"


def old_folder_rules(config: UNetADMConfig) -> list[Rule]:
    """Folders written before the attention was renamed."""
    levels, blocks = len(config.widths), config.blocks
    places = [("mid_block", 1)]
    places += [(f"down_blocks.{i}", blocks) for i in range(levels)]
    places += [(f"up_blocks.{i}", blocks + 1) for i in range(levels)]
    return [
        Rule(f"{place}.attentions.{j}.{ours}.", f"{place}.attentions.{j}.{theirs}.")
        for place, count in places
        for j in range(count)
        for ours, theirs in _OLD.items()
    ]


def config_of_json(content: Mapping[str, Any]) -> UNetADMConfig:
    """From the folder's config.json. Raises Unreadable for what is not built here, by name."""
    said = PublishedConfig(content, "A U-Net without words")
    for key, values in _BUILT.items():
        said.only(key, *values)
    said.take("sample_size")
    said.take("num_train_timesteps")
    kinds = said.take("down_block_types", ("DownBlock2D", *("AttnDownBlock2D",) * 3))
    mirrored = [kind.replace("Down", "Up") for kind in kinds][::-1]
    said.only("up_block_types", mirrored, tuple(mirrored))
    for kind in kinds:
        if kind not in _LEVELS:
            raise Unreadable(f"A U-Net with a {kind} is not built here.")
    shifted = said.take("resnet_time_scale_shift", "default")
    if shifted not in ("default", "scale_shift"):
        raise Unreadable(f"A U-Net with resnet_time_scale_shift = {shifted!r} is not built here.")
    groups = said.take("norm_num_groups", 32)
    own = said.take("attn_norm_num_groups")
    if own not in (None, groups):
        raise Unreadable(f"A U-Net with attn_norm_num_groups = {own} is not built here.")
    config = UNetADMConfig(
        in_channels=said.take("in_channels", 3),
        out_channels=said.take("out_channels", 3),
        widths=tuple(said.take("block_out_channels", (224, 448, 672, 896))),
        blocks=said.take("layers_per_block", 2),
        attention=tuple(_LEVELS[kind][0] for kind in kinds),
        # 8 where nothing is said, one head of all where null is said.
        head_dim=said.take("attention_head_dim", 8) or 0,
        mid_norm=shifted == "default" or own is not None,
        scale_shift=shifted == "scale_shift",
        residual=_residual(said, kinds),
        centred=bool(said.take("downsample_padding", 1)),
        sines_first=not said.take("flip_sin_to_cos", True),
        time_shift=float(said.take("freq_shift", 0)),
        classes=said.take("num_class_embeds") or 0,
        groups=groups,
        norm_epsilon=said.take("norm_eps", 1e-5),
    )
    said.end()
    return config


def _residual(said: PublishedConfig, kinds: list[str]) -> bool:
    """Whether sizes change in residual blocks: each level says it in its own way, and all
    must agree."""
    whole = said.take("downsample_type", "conv")
    said.only("upsample_type", whole)
    ways = {_LEVELS[kind][1] for kind in kinds}
    found = {whole == "resnet" if way is None else way for way in ways} or {whole == "resnet"}
    if len(found) > 1 or whole not in ("conv", "resnet"):
        raise Unreadable("A U-Net whose levels change their size in two ways is not built here.")
    return found.pop()


# Keys that have one value here: the first where the key is not there.
_BUILT: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu",),
    "add_attention": (True,),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "dropout": (0.0, 0),
    "mid_block_scale_factor": (1, 1.0),
    "mid_block_type": ("UNetMidBlock2D",),
    "time_embedding_dim": (None,),
    "time_embedding_type": ("positional",),
}


LAYOUTS = tuple(
    Layout(
        name, "unet", ("conv_in.weight", f"mid_block.attentions.0.{query}.weight"), ("",),
        by_json, rules, kind="unet-adm",
    )
    for name, query, rules in (
        ("folder", "to_q", no_rules), ("folder of before 2023", "query", old_folder_rules)
    )
)  # fmt: skip
