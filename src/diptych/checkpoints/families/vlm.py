"""Image-to-text models of a vision tower, a connector and a language model: their configs, and the
three layouts in which each was published.

`hub` is what lies on the hub (transformers 4), `nested` what 4.52 and later hold in memory and
some folders store, `fresh` what transformers 5 writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from diptych.checkpoints.families.config_json import PublishedConfig
from diptych.checkpoints.families.decoder import PASSED_OVER, decoder_of_json
from diptych.checkpoints.families.vision_config import config_of_json as tower_of_json
from diptych.checkpoints.families.vision_names import clip_names, internvit_names, moved
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Kind, Layout, by_json
from diptych.checkpoints.rules import Rule
from diptych.foundation.errors import Unreadable
from diptych.models.connectors import ConnectorConfig
from diptych.models.vision_tower import VisionTowerConfig
from diptych.models.vlm import VLM, VLMConfig


def _llava(said: PublishedConfig, **connector: Any) -> VLMConfig:
    said.only("projector_hidden_act", "gelu", None)
    strategy = said.take("vision_feature_select_strategy", "default")
    if strategy not in ("default", "full"):
        raise Unreadable(f"vision_feature_select_strategy = {strategy!r} is not built here.")
    layer = said.take("vision_feature_layer", -2)
    if not isinstance(layer, int) or layer >= 0:
        raise Unreadable(
            f"vision_feature_layer = {layer!r} is not built here: one from the end is."
        )
    return VLMConfig(
        vision=_tower(said, "clip_vision_model"),
        layer=layer,
        drops_class=strategy == "default",
        connector=ConnectorConfig(bias=said.take("multimodal_projector_bias", True), **connector),
        language=decoder_of_json(said.take("text_config") or {}),
        picture_token=_picture_token(said, 32_000),
    )


def _tower(said: PublishedConfig, kind: str) -> VisionTowerConfig:
    told = dict(said.take("vision_config") or {})
    kind = told.get("model_type", kind)
    # Files of before hold all that a config may say, of texts and of how words are chosen too.
    shape = {key: value for key, value in told.items() if key not in (*PASSED_OVER, "vocab_size")}
    return tower_of_json({**shape, "model_type": kind})


def _picture_token(said: PublishedConfig, usual: int) -> int:
    index, number = said.take("image_token_index"), said.take("image_token_id")
    return next((value for value in (index, number) if value is not None), usual)


def _llava_next(said: PublishedConfig) -> VLMConfig:
    said.take("image_grid_pinpoints")
    return _llava(said, newline=True)


def _onevision(said: PublishedConfig) -> VLMConfig:
    for key in ("image_grid_pinpoints", "video_token_index", "video_token_id"):
        said.take(key)
    said.only("vision_aspect_ratio", "anyres_max_9")
    return replace(_llava(said, newline=True), drops_class=False)


def _idefics(said: PublishedConfig) -> VLMConfig:
    language = decoder_of_json(said.take("text_config") or {})
    return VLMConfig(
        vision=_tower(said, "idefics3_vision"),
        layer=-1,
        normed=True,
        connector=ConnectorConfig(kind="linear", shuffle=said.take("scale_factor", 2), bias=False),
        language=language,
        picture_token=_picture_token(said, 128_257),
    )


def _internvl(said: PublishedConfig) -> VLMConfig:
    said.only("projector_hidden_act", "gelu")
    said.only("vision_feature_layer", -1)
    said.only("vision_feature_select_strategy", "default")
    shuffle = round(1 / said.take("downsample_ratio", 0.5))
    return VLMConfig(
        vision=_tower(said, "internvl_vision"),
        layer=-1,
        normed=True,
        connector=ConnectorConfig(kind="normed_mlp", shuffle=shuffle),
        language=decoder_of_json(said.take("text_config") or {}),
        picture_token=_picture_token(said, 151_667),
    )


def _paligemma(said: PublishedConfig) -> VLMConfig:
    for key in ("hidden_size", "projection_dim", "vocab_size", "ignore_index"):
        said.take(key)
    told = said.take("text_config") or {}
    if told.get("model_type", "gemma") not in ("gemma", "gemma2"):
        raise Unreadable(f"A PaliGemma with {told['model_type']!r} is not built here.")
    return VLMConfig(
        vision=_tower(said, "siglip_vision_model"),
        layer=-1,
        normed=True,
        connector=ConnectorConfig(kind="linear"),
        language=decoder_of_json({"model_type": "gemma", **told}),
        picture_token=_picture_token(said, 256_000),
        sees_all=True,
    )


@dataclass(frozen=True)
class _Family:
    """`of`: its config. `names` of tower, connector and language in the hub's layout; `parts`: the
    connector's maps; `nested`: whether it is stored below `model.` alone."""

    of: Callable[[PublishedConfig], VLMConfig]
    names: tuple[str, str, str] = ("vision_tower.", "multi_modal_projector.", "language_model.")
    parts: tuple[tuple[str, str], ...] = ()
    only_nested: bool = False


FAMILIES: dict[str, _Family] = {
    "llava": _Family(_llava),
    "llava_next": _Family(_llava_next),
    "llava_onevision": _Family(_onevision),
    "idefics3": _Family(
        _idefics,
        ("vision_model.", "connector.modality_projection.", "text_model."),
        (("linear_1.", "proj."),),
        only_nested=True,
    ),
    "internvl": _Family(_internvl, parts=(("norm.", "layer_norm."),)),
    "paligemma": _Family(_paligemma, parts=(("linear_1.", "linear."),)),
}
FAMILIES["smolvlm"] = FAMILIES["idefics3"]


def config_of_json(content: Mapping[str, Any]) -> VLMConfig:
    """From the folder's config.json. Raises Unreadable for what is not built here, by name."""
    kind = content.get("model_type", "")
    if kind not in FAMILIES:
        raise Unreadable(
            f"An image-to-text model of type {kind!r} is not built here.",
            do=f"Built are: {', '.join(FAMILIES)}.",
        )
    said = PublishedConfig(content, f"A {kind}")
    said.take("image_seq_length")
    for key in PASSED_OVER:
        said.take(key)
    config = FAMILIES[kind].of(said)
    said.end()
    return config


def family_of(config: VLMConfig) -> str:
    """What the config tells of the family: towers and connectors differ."""
    connector = config.connector
    if config.sees_all:
        return "paligemma"
    if connector.kind == "linear":
        return "smolvlm"
    if connector.kind == "normed_mlp":
        return "internvl"
    if connector.newline:
        return "llava-next" if config.vision.class_token else "llava-onevision"
    return "llava"


def _settled(head: str) -> Callable[[VLMConfig, Header], VLMConfig]:
    """Whether the output has weights of its own is asked of the file: configs contradict."""

    def settled(config: VLMConfig, header: Header) -> VLMConfig:
        tied = f"{head}lm_head.weight" not in header
        return replace(config, language=replace(config.language, tied=tied))

    return settled


def _rules(family: _Family, tower: str, connector: str, language: str, head: str) -> Any:
    """For a layout: where it has the tower, the connector, the language model and its head."""

    def rules(config: VLMConfig) -> list[Rule]:
        names = internvit_names if config.connector.kind == "normed_mlp" else clip_names
        made = moved(names(config.vision), "vision.", tower)
        made += [Rule("connector.", connector), Rule("language.", language)]
        made.append(Rule("language.lm_head.", f"{head}lm_head."))
        made += [Rule(f"connector.{ours}", f"{connector}{theirs}") for ours, theirs in family.parts]
        nested = "model." if tower.startswith("model.") else ""
        return [*made, Rule("image_newline", f"{nested}image_newline")]

    return rules


def _layouts(kind: str) -> list[Layout]:
    family = FAMILIES[kind]
    tower, connector, language = family.names
    inner = "layer" if kind == "internvl" else "layers"
    rows = {
        "hub": (f"{tower}vision_model.", connector, f"{language}model.", language),
        "fresh": (tower, connector, f"{language}model.", language),
        "nested with vision_model": (
            f"model.{tower}vision_model.", f"model.{connector}", f"model.{language}", "",
        ),
        "nested": (f"model.{tower}", f"model.{connector}", f"model.{language}", ""),
    }  # fmt: skip
    first = family.parts[0][1] if family.parts else "linear_1."
    return [
        Layout(
            f"{kind}, {name}",
            "reader",
            (
                f"{places[0]}encoder.{inner}.0.mlp.fc1.weight",
                f"{places[1]}{first}weight",
                f"{places[2]}embed_tokens.weight",
            ),
            ("",),
            by_json,
            _rules(family, *places),
            _ignorable(places[0]),
            kind="vlm",
            settled=_settled(places[3]),
        )
        for name, places in rows.items()
    ]


def _ignorable(tower: str) -> tuple[str, ...]:
    """SigLIP's head where the config has none, counted places, rates of waves."""
    below = tower.replace(".", r"\.")
    return (
        rf"{below}head\..*", rf"{below}embeddings\.(position_ids|mask_token)",
        r".*rotary_emb\.inv_freq",
    )  # fmt: skip


KINDS: dict[str, Kind] = {"vlm": Kind(VLM, config_of_json, family_of)}
# InternVL's and PaliGemma's names are LLaVA's, but for the connector.
LAYOUTS = tuple(
    layout for kind in ("internvl", "paligemma", "idefics3", "llava") for layout in _layouts(kind)
)
