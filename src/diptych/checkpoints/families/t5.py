"""T5's encoder: its folder, whose names the whole files of SD3 and FLUX took over. Families give
it different numbers among their text encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diptych.checkpoints.families.config_json import PublishedConfig, count_of
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Layout, no_rules
from diptych.checkpoints.rules import Rule
from diptych.foundation.errors import Unreadable
from diptych.models.t5_encoder import T5EncoderConfig

# Layers of those that were published, by width: a file cut short does not pass for a smaller one.
_DEPTHS = {4096: 24, 2048: 24, 1024: 24, 768: 12, 512: 8}
_BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
# What is said of the decoder, of training and of the library.
_PASSED_OVER = (
    "architectures", "bos_token_id", "classifier_dropout", "decoder_start_token_id",
    "dense_act_fn", "dropout_rate", "dtype", "eos_token_id", "initializer_factor", "is_decoder",
    "is_encoder_decoder", "is_gated_act", "model_type", "n_positions", "num_decoder_layers",
    "output_past", "pad_token_id", "scale_decoder_outputs", "task_specific_params",
    "tie_word_embeddings", "torch_dtype", "transformers_version", "use_cache",
)  # fmt: skip


def config_of_json(content: Mapping[str, Any]) -> T5EncoderConfig:
    """From the folder's config.json. Raises Unreadable for what is not built here, by name."""
    said = PublishedConfig(content, "A T5 encoder")
    for key in _PASSED_OVER:
        said.take(key)
    activation = said.take("feed_forward_proj", "relu")
    if activation != "gated-gelu":
        raise Unreadable(f"A T5 encoder with feed_forward_proj = {activation!r} is not built here.")
    config = T5EncoderConfig(
        vocabulary=said.take("vocab_size", 32128),
        width=said.take("d_model", 512),
        depth=said.take("num_layers", 6),
        heads=said.take("num_heads", 8),
        head_dim=said.take("d_kv", 64),
        hidden=said.take("d_ff", 2048),
        buckets=said.take("relative_attention_num_buckets", 32),
        distance=said.take("relative_attention_max_distance", 128),
        norm_epsilon=said.take("layer_norm_epsilon", 1e-6),
    )
    said.end()
    return config


def config_of_header(header: Header) -> tuple[T5EncoderConfig, dict[str, str]]:
    """From names and shapes, prefix taken off, and what was assumed."""
    embedding = header.get("shared.weight") or header["encoder.embed_tokens.weight"]
    vocabulary, width = embedding.shape
    buckets, heads = header[_BIAS].shape
    config = T5EncoderConfig(
        vocabulary=vocabulary,
        width=width,
        depth=_DEPTHS.get(width, count_of(header, "encoder.block")),
        heads=heads,
        head_dim=header["encoder.block.0.layer.0.SelfAttention.q.weight"].shape[0] // heads,
        hidden=header["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"].shape[0],
        buckets=buckets,
    )
    return config, {"farthest distance": str(config.distance)}


def _layouts(component: str, *prefixes: str) -> tuple[Layout, ...]:
    tied = (r"encoder\.embed_tokens\.weight",)  # the same tensor once more
    marks = (_BIAS, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight")
    return (
        Layout(
            "T5", component, (*marks, "shared.weight"), (*prefixes, ""), config_of_header,
            no_rules, tied, "t5",
        ),
        Layout(
            "T5, tied the other way", component, (*marks, "encoder.embed_tokens.weight"),
            (*prefixes, ""), config_of_header,
            lambda config: [Rule("shared.", "encoder.embed_tokens.")], (), "t5",
        ),
    )  # fmt: skip


LAYOUTS = (
    *_layouts("text_encoder_3", "text_encoders.t5xxl.transformer."),
    *_layouts("text_encoder_2"),
    *_layouts("text_encoder"),
)
