"""The config of a language model, as the folder of a larger model holds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from diptych.checkpoints.families.config_json import PublishedConfig
from diptych.foundation.errors import Unreadable
from diptych.models.decoder_config import DecoderConfig
from diptych.nn.rope import RotaryConfig

# What is said of training, of how words are chosen, and by libraries of themselves.
PASSED_OVER = frozenset((
    "_name_or_path", "_attn_implementation", "architectures", "attn_implementation",
    "bad_words_ids", "begin_suppress_tokens", "bos_token_id", "cache_implementation",
    "chunk_size_feed_forward", "decoder_start_token_id", "diversity_penalty", "do_sample", "dtype",
    "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id", "exponential_decay",
    "forced_bos_token_id", "forced_eos_token_id", "id2label", "initializer_factor",
    "initializer_range", "label2id", "length_penalty", "max_length", "max_position_embeddings",
    "max_window_layers", "min_length", "model_type", "neftune_noise_alpha", "no_repeat_ngram_size",
    "num_beam_groups", "num_beams", "num_image_tokens", "num_return_sequences", "output_scores",
    "pad_token_id", "prefix", "pretraining_tp", "problem_type", "remove_invalid_values",
    "repetition_penalty", "return_dict", "return_dict_in_generate", "sep_token_id",
    "suppress_tokens", "task_specific_params", "temperature", "tie_word_embeddings",
    "tokenizer_class", "top_k", "top_p", "torch_dtype", "transformers_version", "typical_p",
    "unk_token_id", "use_cache", "vision_token_id", "_flash_attn_2_enabled", "is_llama_config",
    "rope_interleaved", "transformers.js_config", "use_resampler", "perceiver_config",
    "resampler_config", "qk_layer_norms", "freeze_lm_head", "freeze_text_layers",
    "pixel_shuffle_factor",
    "output_attentions", "output_hidden_states", "cross_attention_hidden_size",
))  # fmt: skip
# What differs from Llama: our flags, and their defaults of a config that says less.
_FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama": ({}, {}),
    "mistral": ({}, {"groups": 8, "hidden": 14_336, "window": 4096}),
    "qwen2": ({"bias": True}, {"hidden": 22_016, "vocabulary": 151_936}),
    "qwen3": ({"head_norm": True}, {"head_dim": 128, "hidden": 22_016, "vocabulary": 151_936}),
    "phi3": ({}, {"width": 3072, "hidden": 8192, "vocabulary": 32_064, "epsilon": 1e-5}),
    "smollm3": (
        {}, {"width": 2048, "depth": 36, "heads": 16, "groups": 4, "vocabulary": 128_256},
    ),
    "gemma": (
        {"activation": "gelu_tanh", "plus_one": True, "scaled": True},
        {"width": 3072, "depth": 28, "heads": 16, "groups": 16, "head_dim": 256,
         "hidden": 24_576, "vocabulary": 256_000},
    ),
    "gemma2": (
        {"activation": "gelu_tanh", "plus_one": True, "scaled": True, "sandwich": True,
         "full_each": 2},
        {"width": 2304, "depth": 26, "heads": 8, "groups": 4, "head_dim": 256, "hidden": 9216,
         "vocabulary": 256_000, "window": 4096, "cap": 50.0, "final_cap": 30.0,
         "scale_width": 256},
    ),
}  # fmt: skip
_ACTIVATIONS = {
    "silu": "silu", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu_tanh", None: None
}  # fmt: skip


def decoder_of_json(content: Mapping[str, Any]) -> DecoderConfig:
    """From a `text_config`. Raises Unreadable for what is not built here, by name."""
    kind = content.get("model_type", "llama")
    if kind not in _FAMILIES:
        raise Unreadable(
            f"A language model of type {kind!r} is not built here.",
            do=f"Built are: {', '.join(_FAMILIES)}.",
        )
    flags, usual = _FAMILIES[kind]
    said = PublishedConfig(content, f"A language model ({kind})")
    for key in PASSED_OVER:
        said.take(key)
    for key in ("attention_bias", "mlp_bias", "use_mrope"):
        said.only(key, bool(flags.get("bias")) and key == "attention_bias", False, None)
    for key in ("attention_dropout", "embd_pdrop", "resid_pdrop", "hidden_dropout"):
        said.take(key)
    said.only("use_bidirectional_attention", None, False, True)
    _activation(said, flags)
    width = said.take("hidden_size", usual.get("width", 4096))
    heads = said.take("num_attention_heads", usual.get("heads", 32))
    depth = said.take("num_hidden_layers", usual.get("depth", 32))
    config = DecoderConfig(
        vocabulary=said.take("vocab_size", usual.get("vocabulary", 32_000)),
        width=width,
        depth=depth,
        heads=heads,
        groups=said.take("num_key_value_heads", None) or usual.get("groups", heads),
        head_dim=said.take("head_dim", None) or usual.get("head_dim", width // heads),
        hidden=said.take("intermediate_size", usual.get("hidden", 11_008)),
        norm_epsilon=said.take("rms_norm_eps", usual.get("epsilon", 1e-6)),
        rotary=_rotary(said, content),
        window=_window(said, usual),
        cap=said.take("attn_logit_softcapping", usual.get("cap", 0.0)) or 0.0,
        final_cap=said.take("final_logit_softcapping", usual.get("final_cap", 0.0)) or 0.0,
        scale_width=said.take("query_pre_attn_scalar", usual.get("scale_width", 0)) or 0,
        unturned_each=_unturned(said, depth) if kind == "smollm3" else 0,
        **flags,
    )
    _kinds_of_layers(said.take("layer_types"), config)
    said.end()
    return config


def _activation(said: PublishedConfig, flags: Mapping[str, Any]) -> None:
    for key in ("hidden_act", "hidden_activation"):
        named = said.take(key)
        if named not in _ACTIVATIONS:
            raise Unreadable(f"A language model with {key} = {named!r} is not built here.")
        if named is not None and _ACTIVATIONS[named] != flags.get("activation", "silu"):
            raise Unreadable(f"A language model of this type with {key} = {named!r} is not known.")


def _window(said: PublishedConfig, usual: Mapping[str, Any]) -> int:
    used = said.take("use_sliding_window", True)
    window = said.take("sliding_window", usual.get("window", 0)) or 0
    return window if used else 0


def _unturned(said: PublishedConfig, depth: int) -> int:
    """SmolLM 3: every so many layers know no places."""
    each = said.take("no_rope_layer_interval", 4)
    told = said.take("no_rope_layers")
    usual = [int((i + 1) % each != 0) for i in range(depth)]
    if told is not None and list(told) != usual:
        raise Unreadable("A SmolLM 3 whose layers without places are not every so many.")
    return each


def _kinds_of_layers(kinds: list[str] | None, config: DecoderConfig) -> None:
    windows = [config.window_of(i) for i in range(config.depth)]
    wanted = ["sliding_attention" if window else "full_attention" for window in windows]
    if kinds is not None and list(kinds) != wanted:
        raise Unreadable("A language model whose layers look back in this pattern is not built.")


_STRETCHES: dict[str, Callable[[RotaryConfig, Mapping[str, Any]], RotaryConfig]] = {
    "default": lambda plain, said: plain,
    "linear": lambda plain, said: replace(plain, stretch="linear", factor=said["factor"]),
    "llama3": lambda plain, said: replace(
        plain, stretch="llama3", factor=said["factor"],
        original=said["original_max_position_embeddings"],
        low=said["low_freq_factor"], high=said["high_freq_factor"],
    ),
    "yarn": lambda plain, said: replace(
        plain, stretch="yarn", factor=said["factor"],
        original=said["original_max_position_embeddings"],
        low=said.get("beta_slow") or 1.0, high=said.get("beta_fast") or 32.0,
        gain=said.get("attention_factor") or 0.0,
    ),
}  # fmt: skip


def _rotary(said: PublishedConfig, content: Mapping[str, Any]) -> RotaryConfig:
    """From `rope_parameters` of today, or `rope_theta` and `rope_scaling` of before."""
    told = dict(said.take("rope_parameters") or said.take("rope_scaling") or {})
    said.take("rope_scaling")
    base = said.take("rope_theta", None) or told.get("rope_theta", 10_000.0)
    kind = told.get("rope_type") or told.get("type") or "default"
    sections = tuple(told.get("mrope_section") or ())
    if kind == "mrope":
        kind = "default"
    if kind not in _STRETCHES:
        raise Unreadable(f"Positions stretched as {kind!r} are not read here.")
    plain = RotaryConfig(base=float(base), sections=sections)
    try:
        return _STRETCHES[kind](plain, told)
    except KeyError as error:
        raise Unreadable(f"Positions stretched as {kind!r} lack {error!s}.") from error
