"""GIT, a vision transformer with GPT-2, and BLIP-2: their configs, and how the hub stores them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from diptych.checkpoints.families.blip import tower_of_json
from diptych.checkpoints.families.classic import (
    NAMINGS,
    bert_of_json,
    gpt2_of_json,
    opt_of_json,
    t5_of_json,
)
from diptych.checkpoints.families.config_json import OF_LIBRARY, PublishedConfig
from diptych.checkpoints.families.decoder import PASSED_OVER, decoder_of_json
from diptych.checkpoints.families.vision_config import clip_tower
from diptych.checkpoints.families.vision_config import config_of_json as any_tower
from diptych.checkpoints.families.vision_names import (
    blip_names,
    moved,
    vit_folder_names,
    vit_names,
)
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Kind, Layout, by_json
from diptych.checkpoints.rules import BATCHED, Rule
from diptych.foundation.errors import Unreadable
from diptych.models.blip2 import EVA_TOWER, Blip2, Blip2Config
from diptych.models.git import Git, GitConfig
from diptych.models.qformer import QFormerConfig
from diptych.models.vit_gpt2 import VitGpt2, VitGpt2Config


def git_of_json(content: Mapping[str, Any]) -> GitConfig:
    """Raises Unreadable for one that reads several pictures (video)."""
    inner = dict(content)
    shape = inner.pop("vision_config", None) or {}
    if inner.pop("num_image_with_embedding", None) is not None:
        raise Unreadable("A GIT that reads several pictures (video) is not built here.")
    usual = {"num_hidden_layers": 6, "num_attention_heads": 12, "vocab_size": 30_522,
             "max_position_embeddings": 1024}  # fmt: skip
    words = bert_of_json({**usual, **inner}, "A GIT", tied=False, head_bias=True)
    kept = {key: value for key, value in shape.items() if key not in PASSED_OVER}
    said = PublishedConfig({"patch_size": 16, **kept}, "GIT's vision tower")
    tower = clip_tower(said)
    said.end(OF_LIBRARY)
    return GitConfig(vision=replace(tower, pooling="none"), words=words)


def vit_gpt2_of_json(content: Mapping[str, Any]) -> VitGpt2Config:
    """Raises Unreadable for other pairs of encoder and decoder."""
    said = PublishedConfig(content, "A vision-encoder-decoder")
    for key in PASSED_OVER:
        said.take(key)
    seen, words = said.take("encoder") or {}, said.take("decoder") or {}
    said.end(OF_LIBRARY | {"is_encoder_decoder"})
    kinds = seen.get("model_type"), words.get("model_type")
    if kinds != ("vit", "gpt2"):
        raise Unreadable(
            f"A pair of {kinds[0]!r} and {kinds[1]!r} is not built here.", do="vit and gpt2 are."
        )
    kept = {key: value for key, value in seen.items() if key not in PASSED_OVER}
    tower = any_tower({**kept, "model_type": "vit"}, pooled=True)
    width = words.get("n_embd", 768)
    return VitGpt2Config(vision=tower, words=gpt2_of_json(words, width))


def blip2_of_json(content: Mapping[str, Any]) -> Blip2Config:
    """BLIP-2 with OPT or T5; InstructBLIP, whose Q-Former reads, with T5 or Vicuna."""
    reads = content.get("model_type") == "instructblip"
    said = PublishedConfig(content, "An InstructBLIP" if reads else "A BLIP-2")
    for key in ("image_text_hidden_size", "image_token_index", "use_decoder_only_language_model",
                "vision_config_dict", "qformer_config_dict", "text_config_dict",
                "is_encoder_decoder", *PASSED_OVER):  # fmt: skip
        said.take(key)
    vision = tower_of_json(said.take("vision_config") or {}, EVA_TOWER)
    former = qformer_of_json(
        said.take("qformer_config") or {}, said.take("num_query_tokens") or 32, reads=reads
    )
    text = said.take("text_config") or {}
    said.end(OF_LIBRARY)
    kind = text.get("model_type", "opt")
    if kind == "llama" and reads:
        return Blip2Config(vision=vision, former=former, llama=decoder_of_json(text))
    if kind == "opt" and not reads:
        return Blip2Config(vision=vision, former=former, words=opt_of_json(text))
    if kind != "t5":
        raise Unreadable(
            f"A {content.get('model_type')} with a language model {kind!r} is not built here.",
            do=f"{'llama' if reads else 'opt'} and t5 are.",
        )
    words = t5_of_json(text)
    reader = replace(
        words, vocabulary=0, memory=0, depth=text.get("num_layers", 6), tied=True, shrunk=False
    )
    return Blip2Config(vision=vision, former=former, words=words, reader=reader)


def qformer_of_json(content: Mapping[str, Any], queries: int, *, reads: bool) -> QFormerConfig:
    """`reads`: questions."""
    inner = dict(content)
    each, seen = inner.pop("cross_attention_frequency", 2), inner.pop("encoder_hidden_size", 1408)
    inner.pop("use_qformer_text_input", None)
    usual = {"num_attention_heads": 12, "vocab_size": 30_522}
    layers = bert_of_json({**usual, **inner}, "A Q-Former", memory=seen)
    if not reads:
        layers = replace(layers, vocabulary=0, positions=0)
    return QFormerConfig(layers=layers, queries=queries, each=each)


def _git_rules(config: GitConfig) -> list[Rule]:
    return [
        # Of two rules that fit alike the first wins.
        Rule("language.lm_head.", "output."),
        Rule("language.head_bias", "output.bias"),
        *NAMINGS["bert"].rules(config.words, "language.", "git."),
        Rule("vision.", "git.image_encoder.vision_model."),
        Rule("linear.", "git.visual_projection.visual_projection.0."),
        Rule("norm.", "git.visual_projection.visual_projection.1."),
    ]


def _vit_gpt2_rules(names: Any) -> Callable[[VitGpt2Config], list[Rule]]:
    def rules(config: VitGpt2Config) -> list[Rule]:
        return [
            *moved(names(config.vision), "vision.", "encoder."),
            *NAMINGS["gpt2"].rules(config.words, "language.", "decoder.transformer.", "decoder."),
            Rule("linear.", "enc_to_dec_proj."),
        ]

    return rules


_FORMER = {
    "self_attn.o_proj.": "attention.output.dense.", "self_norm.": "attention.output.LayerNorm.",
    "cross_attn.o_proj.": "crossattention.output.dense.",
    "cross_norm.": "crossattention.output.LayerNorm.",
    "mlp.fc1.": "intermediate_query.dense.", "mlp.fc2.": "output_query.dense.",
    "mlp_norm.": "output_query.LayerNorm.",
    "text_mlp.fc1.": "intermediate.dense.", "text_mlp.fc2.": "output.dense.",
    "text_norm.": "output.LayerNorm.",
    **{
        f"{a}_attn.{word[0]}_proj.": f"{b}attention.attention.{word}."
        for a, b in (("self", ""), ("cross", "cross"))
        for word in ("query", "key", "value")
    },
}  # fmt: skip


def qformer_rules(config: QFormerConfig) -> list[Rule]:
    """Below `former.` here and `qformer.` there, the queries beside it."""
    rules = [Rule("former.queries", "query_tokens", BATCHED),
             Rule("former.embed_norm.", "qformer.layernorm.")]  # fmt: skip
    if config.layers.vocabulary:
        at = "qformer.embeddings."
        rules[1:] = [
            Rule("former.embed_norm.", f"{at}layernorm."),
            Rule("former.embed_tokens.", f"{at}word_embeddings."),
            Rule("former.embed_positions.", f"{at}position_embeddings."),
        ]
    for i in range(config.layers.depth):
        ours, theirs = f"former.layers.{i}.", f"qformer.encoder.layer.{i}."
        rules += [Rule(ours + a, theirs + b) for a, b in _FORMER.items()]
    return rules


def _blip2_rules(config: Blip2Config) -> list[Rule]:
    made = moved(blip_names(config.vision), "vision.", "vision_model.")
    made += [*qformer_rules(config.former), Rule("linear.", "language_projection.")]
    if config.llama is not None:
        return [*made, Rule("language.lm_head.", "language_model.lm_head."),
                Rule("language.", "language_model.model.")]  # fmt: skip
    if config.reader is None:
        opt = NAMINGS["opt"]
        at = "language_model.model.decoder."
        return [*made, *opt.rules(config.words, "language.", at, "language_model.")]
    kind = "t5" if config.words.gated else "t5-plain"
    at = "language_model."
    made.append(Rule("language.embed_tokens.", f"{at}shared."))
    made += NAMINGS[kind].rules(config.words, "language.", f"{at}decoder.", at)
    return made + NAMINGS[f"{kind}-encoder"].rules(config.reader, "reader.", f"{at}encoder.")


def _blip2_settled(config: Blip2Config, header: Header) -> Blip2Config:
    """Whether the output has weights of its own is asked of the file."""
    tied = "language_model.lm_head.weight" not in header
    if config.llama is not None:
        return replace(config, llama=replace(config.llama, tied=tied))
    return replace(config, words=replace(config.words, tied=tied))


def _vit_settled(config: VitGpt2Config, header: Header) -> VitGpt2Config:
    if "encoder.pooler.dense.weight" in header:
        return config
    return replace(config, vision=replace(config.vision, pooling="none"))


def _blip2_family(config: Blip2Config) -> str:
    if config.llama is not None:
        return "instructblip-vicuna"
    if config.former.layers.vocabulary:
        return "instructblip-t5"
    return "blip2-opt" if config.reader is None else "blip2-t5"


KINDS: dict[str, Kind] = {
    "git": Kind(Git, git_of_json, lambda config: "git"),
    "vit-gpt2": Kind(VitGpt2, vit_gpt2_of_json, lambda config: "vit-gpt2"),
    "blip2": Kind(Blip2, blip2_of_json, _blip2_family),
}
_PLACES = r".*embeddings\.position_ids"


def _layout(
    name: str, kind: str, marks: tuple[str, ...], rules: Any, ignorable: tuple[str, ...] = (),
    **more: Any,
) -> Layout:  # fmt: skip
    return Layout(
        name, "reader", marks, ("",), by_json, rules, (_PLACES, *ignorable), kind=kind, **more
    )


_GPT2_BUFFERS = (
    r".*\.(attn|crossattention)\.(bias|masked_bias)", r"decoder\.lm_head\.weight",
)  # fmt: skip
_FORMER_MARK = "qformer.encoder.layer.0.intermediate_query.dense.weight"
LAYOUTS = (
    _layout(
        "git, hub", "git",
        ("git.visual_projection.visual_projection.0.weight", "output.weight"), _git_rules,
    ),
    _layout(
        "vit-gpt2, hub", "vit-gpt2",
        ("encoder.encoder.layer.0.attention.attention.query.weight",
         "decoder.transformer.wte.weight"),
        _vit_gpt2_rules(vit_folder_names), _GPT2_BUFFERS, settled=_vit_settled,
    ),
    _layout(
        "vit-gpt2, native", "vit-gpt2",
        ("encoder.layers.0.attention.q_proj.weight", "decoder.transformer.wte.weight"),
        _vit_gpt2_rules(vit_names), _GPT2_BUFFERS, settled=_vit_settled,
    ),
    # Before BLIP-2, whose names they have.
    _layout(
        "instructblip-vicuna, hub", "blip2",
        (_FORMER_MARK, "qformer.embeddings.word_embeddings.weight",
         "language_model.model.layers.0.mlp.up_proj.weight"),
        _blip2_rules, (r".*rotary_emb\.inv_freq",), settled=_blip2_settled,
    ),
    _layout(
        "instructblip-t5, hub", "blip2",
        (_FORMER_MARK, "qformer.embeddings.word_embeddings.weight",
         "language_model.shared.weight"),
        _blip2_rules, (r"language_model\.(en|de)coder\.embed_tokens\.weight",),
        settled=_blip2_settled,
    ),
    _layout(
        "blip2-opt, hub", "blip2",
        (_FORMER_MARK, "language_model.model.decoder.embed_positions.weight"),
        _blip2_rules, settled=_blip2_settled,
    ),
    _layout(
        "blip2-t5, hub", "blip2",
        (_FORMER_MARK, "language_model.shared.weight"), _blip2_rules,
        (r"language_model\.(en|de)coder\.embed_tokens\.weight",), settled=_blip2_settled,
    ),
)  # fmt: skip
