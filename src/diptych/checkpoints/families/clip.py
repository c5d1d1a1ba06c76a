"""CLIP with both towers: folders of `CLIPModel`, and OpenCLIP's files, in which query, key and
value are one matrix and the projections lie the other way round."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diptych.checkpoints.families import clip_text
from diptych.checkpoints.families.config_json import OF_LIBRARY, PublishedConfig, count_of
from diptych.checkpoints.families.vision import clip_like, sized
from diptych.checkpoints.families.vision_config import clip_tower
from diptych.checkpoints.families.vision_names import Naming, moved
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Kind, Known, Layout, no_rules
from diptych.checkpoints.rules import SAME, TRANSPOSE, Rule
from diptych.foundation.errors import Unreadable
from diptych.models.clip import CLIP, CLIP_TOWER, CLIPConfig
from diptych.models.clip_blocks import Activation

_VISUAL = Naming(
    "transformer.resblocks.{}",
    {
        "embeddings.class_embedding": ("class_embedding", SAME),
        "embeddings.position_embedding.weight": ("positional_embedding", SAME),
        "embeddings.patch_embedding.": ("conv1.", SAME),
        "pre_layrnorm.": ("ln_pre.", SAME),
        "post_layernorm.": ("ln_post.", SAME),
    },
    {
        "layer_norm1.": "ln_1.",
        "layer_norm2.": "ln_2.",
        "self_attn.out_proj.": "attn.out_proj.",
        "mlp.fc1.": "mlp.c_fc.",
        "mlp.fc2.": "mlp.c_proj.",
    },
    {f"self_attn.{name}_proj": ("attn.in_proj_", part, 3) for part, name in enumerate("qkv")},
)
# CLIP's number, for configs that say 2, which is wrong (models/clip_text.py).
_EOS, _WRONG_EOS = 49407, 2


def openclip_rules(config: CLIPConfig, text: str = "") -> list[Rule]:
    """OpenCLIP's layout; `text`: what its text tower lies below."""
    return [
        *moved(_VISUAL.rules(config.vision), "vision_model.", "visual."),
        *openclip_text_rules(config.text.depth, text),
        Rule("visual_projection.weight", "visual.proj", TRANSPOSE),
        Rule("text_projection.weight", f"{text}text_projection", TRANSPOSE),
    ]


def openclip_text_rules(depth: int, text: str) -> list[Rule]:
    """OpenCLIP's text tower without its projection, below `text_model.` here."""
    own = [r for r in clip_text.openclip_rules(depth) if not r.ours.startswith("text_projection")]
    return moved(own, "text_model.", text)


def config_of_json(content: Mapping[str, Any]) -> CLIPConfig:
    """From the folder's config.json. Raises Unreadable."""
    said = PublishedConfig(content, "A CLIP")
    said.only("model_type", "clip")
    said.take("logit_scale_init_value")
    words, seen = (part_taken(said, part) for part in ("text_config", "vision_config"))
    projection = said.take("projection_dim", 512)
    said.end(OF_LIBRARY)
    end = words.get("eos_token_id", _EOS)
    text = clip_text.config_of_json(words, _EOS if end == _WRONG_EOS else end)
    tower = PublishedConfig(seen, "CLIP's vision tower")
    vision = clip_tower(tower)
    tower.end(OF_LIBRARY)
    return CLIPConfig(vision=vision, text=replace(text, projection=0), projection=projection)


def part_taken(said: PublishedConfig, part: str) -> dict[str, Any]:
    """The config of a tower. Old files also have a `..._dict` of what differs from the defaults,
    which wins over the other."""
    whole, differing = said.take(part), said.take(f"{part}_dict")
    return dict(differing or whole or {})


def _config_of_folder(header: Header) -> Known:
    seen, words = (below(header, part) for part in ("vision_model.", "text_model."))
    projection = header["visual_projection.weight"].shape[0]
    text, _ = clip_text.config_of_header(words, _EOS)
    return _settled(
        CLIPConfig(
            vision=clip_like(seen, CLIP_TOWER),
            text=replace(text, depth=count_of(words, "encoder.layers")),
            projection=projection,
        ),
        # OpenAI's B and L have these widths; so have some of OpenCLIP's, whose folder says it.
        "quick_gelu" if projection in (512, 768) else "gelu",
    )


def below(header: Header, prefix: str) -> Header:
    """What begins with `prefix`, without it."""
    return {
        name.removeprefix(prefix): one for name, one in header.items() if name.startswith(prefix)
    }


def _settled(config: CLIPConfig, activation: Activation) -> Known:
    config = replace(
        config,
        vision=replace(config.vision, activation=activation),
        text=replace(config.text, activation=activation, projection=0),
    )
    heads = f"{config.vision.heads} and {config.text.heads}"
    return config, {"heads": heads, "activation": activation}


def _config_of_openclip(header: Header, text: str = "") -> Known:
    seen, words = below(header, "visual."), below(header, text)
    one = next(iter(header.values())).file
    described, _ = clip_text.config_of_openclip(words, _EOS, projects=False)
    depth = count_of(words, "transformer.resblocks")
    # Told by `quick_gelu` beside the file; OpenAI's own hold three numbers that OpenCLIP's do not.
    beside = one.with_name("open_clip_config.json")
    quick = "input_resolution" in header
    if beside.is_file():
        quick = _quick(json.loads(beside.read_text()))
    return _settled(
        CLIPConfig(
            vision=sized(
                CLIP_TOWER,
                seen["conv1.weight"].shape,
                seen["positional_embedding"].shape[0],
                depth=count_of(seen, "transformer.resblocks"),
                hidden=seen["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
            ),
            text=replace(described, depth=depth),
            projection=seen["proj"].shape[1],
        ),
        "quick_gelu" if quick else "gelu",
    )


def _quick(content: Any) -> bool:
    model = content.get("model_cfg") if isinstance(content, dict) else None
    if not isinstance(model, dict):
        raise Unreadable("open_clip_config.json has no model_cfg.", do="Copy the folder again.")
    return bool(model.get("quick_gelu", False))


KINDS = {"clip": Kind(CLIP, config_of_json, lambda config: "clip")}
# Scalars that OpenAI's files hold, and a mask that is made anew.
_IGNORABLE = (r"input_resolution", r"context_length", r"vocab_size", r"(text\.)?attn_mask")
LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "folder",
        "clip",
        ("logit_scale", "text_projection.weight", "visual_projection.weight",
         "vision_model.pre_layrnorm.weight", "text_model.final_layer_norm.weight"),
        ("",),
        _config_of_folder,
        no_rules,
        (r"(text|vision)_model\.embeddings\.position_ids",),
    ),
    Layout(
        "OpenCLIP",
        "clip",
        ("logit_scale", "visual.conv1.weight", "visual.proj", "ln_final.weight"),
        ("", "module."),
        _config_of_openclip,
        openclip_rules,
        _IGNORABLE,
    ),
    Layout(
        "OpenCLIP with text apart",
        "clip",
        ("logit_scale", "visual.conv1.weight", "visual.proj", "text.ln_final.weight"),
        ("", "module."),
        lambda header: _config_of_openclip(header, "text."),
        lambda config: openclip_rules(config, "text."),
        _IGNORABLE,
    ),
)  # fmt: skip
