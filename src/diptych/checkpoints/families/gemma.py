"""Gemma and Gemma 2 as text encoders: folders of the model alone, and of a whole language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diptych.checkpoints.families.config_json import PublishedConfig, count_of
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Layout, no_rules
from diptych.checkpoints.rules import Rule
from diptych.foundation.errors import Unreadable
from diptych.models.gemma_encoder import GEMMA2_2B, GemmaConfig

# Layers of those that were published, by width: a file cut short does not pass for a smaller one.
_DEPTHS = {2048: 18, 3072: 28, 2304: 26, 3584: 42}
_HEAD = 256
_SANDWICH = "layers.0.pre_feedforward_layernorm.weight"
# What is said of training, of the head and of the library.
_PASSED_OVER = (
    "architectures", "bos_token_id", "cache_implementation", "dtype", "eos_token_id",
    "final_logit_softcapping", "initializer_range", "max_position_embeddings", "pad_token_id",
    "tie_word_embeddings", "torch_dtype", "transformers_version", "use_cache",
)  # fmt: skip


def config_of_json(content: Mapping[str, Any]) -> GemmaConfig:
    """From the folder's config.json. Raises Unreadable for what is not built here, by name."""
    kind = content.get("model_type", "gemma")
    if kind not in ("gemma", "gemma2"):
        raise Unreadable(f"A text encoder of type {kind!r} is not built here.")
    said = PublishedConfig(content, "A Gemma")
    for key in ("model_type", *_PASSED_OVER):
        said.take(key)
    # The first Gemma says gelu, or nothing, and means the one of the tanh.
    said.only("hidden_act", "gelu_pytorch_tanh", "gelu")
    said.only("hidden_activation", "gelu_pytorch_tanh", None)
    said.only("attention_bias", False)
    said.only("attention_dropout", 0.0, 0)
    said.only("use_bidirectional_attention", None, False)
    turns = said.take("rope_parameters") or {}
    said.take("rope_scaling")
    if turns.get("rope_type", "default") != "default" or content.get("rope_scaling"):
        raise Unreadable("A Gemma with scaled positions is not built here.")
    second, heads, head_dim = kind == "gemma2", said.take("num_attention_heads", 8), _HEAD
    depth = said.take("num_hidden_layers", 26 if second else 28)
    head_dim = said.take("head_dim", head_dim)
    window = said.take("sliding_window", 4096) or 0
    _alternate(said.take("layer_types"), depth, second)
    config = GemmaConfig(
        vocabulary=said.take("vocab_size", 256_000),
        width=said.take("hidden_size", 2304 if second else 3072),
        depth=depth,
        heads=heads,
        groups=said.take("num_key_value_heads", 4 if second else 16),
        head_dim=head_dim,
        hidden=said.take("intermediate_size", 9216 if second else 24_576),
        base=said.take("rope_theta", turns.get("rope_theta", 10_000.0)),
        norm_epsilon=said.take("rms_norm_eps", 1e-6),
        sandwich=second,
        cap=(said.take("attn_logit_softcapping", 50.0) or 0.0) if second else 0.0,
        window=window if second else 0,
        scale_width=said.take("query_pre_attn_scalar", 256) if second else 0,
    )
    said.end()
    return config


def _alternate(kinds: list[str] | None, depth: int, second: bool) -> None:
    """Which layers look back only so far: every other, from the first on."""
    usual = [("sliding_attention", "full_attention")[i % 2] for i in range(depth)]
    if second and kinds is not None and kinds != usual:
        raise Unreadable("A Gemma 2 whose windows do not alternate is not built here.")


def config_of_header(header: Header) -> tuple[GemmaConfig, dict[str, str]]:
    """From names and shapes, prefix taken off, and what was assumed."""
    vocabulary, width = header["embed_tokens.weight"].shape
    second = _SANDWICH in header
    config = GemmaConfig(
        vocabulary=vocabulary,
        width=width,
        depth=_DEPTHS.get(width, count_of(header, "layers")),
        heads=header["layers.0.self_attn.q_proj.weight"].shape[0] // _HEAD,
        groups=header["layers.0.self_attn.k_proj.weight"].shape[0] // _HEAD,
        head_dim=_HEAD,
        hidden=header["layers.0.mlp.gate_proj.weight"].shape[0],
        sandwich=second,
        cap=GEMMA2_2B.cap if second else 0.0,
        window=GEMMA2_2B.window if second else 0,
        scale_width=GEMMA2_2B.scale_width if second else 0,
    )
    assumed = {"heads": f"{_HEAD} channels each"}
    if second:
        assumed["attention"] = f"scores up to {config.cap:g}, a window of {config.window:,}"
    return config, assumed


def _unnested(header: Header) -> Header:
    return {name.removeprefix("model."): one for name, one in header.items()}


_MARKS = ("embed_tokens.weight", "layers.0.self_attn.q_proj.weight", "norm.weight")
LAYOUTS = (
    Layout(
        "Gemma", "text_encoder", _MARKS, ("",), config_of_header, no_rules, kind="gemma"
    ),
    Layout(
        "Gemma with its head",
        "text_encoder",
        tuple(f"model.{name}" for name in _MARKS),
        ("text_encoders.gemma2_2b.transformer.", ""),
        lambda header: config_of_header(_unnested(header)),
        lambda config: [Rule("", "model.")],
        (r"lm_head\.weight",),
        kind="gemma",
    ),
)  # fmt: skip
