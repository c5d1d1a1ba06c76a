"""How published folders name what `ClassicStack` holds, and their configs: GPT-2, OPT, BERT as a
decoder, T5 and BART. Families with one of them among their parts use these below a prefix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from diptych.checkpoints.families.config_json import OF_LIBRARY, PublishedConfig
from diptych.checkpoints.families.decoder import PASSED_OVER
from diptych.checkpoints.rules import COLUMNS, SAME, Rule
from diptych.foundation.errors import Unreadable
from diptych.models.classic_config import ClassicActivation, ClassicConfig

_ACTIVATIONS: dict[str, ClassicActivation] = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu",
    "quick_gelu": "quick_gelu",
}  # fmt: skip


@dataclass(frozen=True)
class ClassicNaming:
    """`outer`: ours to theirs around the layers; `at`: where layer `{}` lies; `parts`: ours to
    theirs within one; `joined`: ours to the stored name, which share of its columns, of how many.
    `op`: how matrices of a layer's maps are turned."""

    at: str
    outer: Mapping[str, str]
    parts: Mapping[str, str]
    joined: Mapping[str, tuple[str, int, int]] = field(default_factory=dict[str, Any])
    op: str = SAME

    def rules(self, config: ClassicConfig, ours: str, theirs: str, head: str = "") -> list[Rule]:
        """`ours` and `theirs` are where the network lies; `head`: where what makes words of its
        states does, if not there."""
        rules = [Rule(ours + a, (head if a in _OF_HEAD else theirs) + b) for a, b in
                 self.outer.items()]  # fmt: skip
        for i in range(config.depth):
            mine, place = f"{ours}layers.{i}.", theirs + self.at.format(i) + "."
            rules += [Rule(mine + a, place + b, self._op(a)) for a, b in self.parts.items()]
            rules += [
                Rule(mine + a, place + b, self.op, part, parts)
                for a, (b, part, parts) in self.joined.items()
            ]
        return rules

    def _op(self, ours: str) -> str:
        return SAME if "norm" in ours else self.op


_OF_HEAD = frozenset({"lm_head.", "head_bias", "transform.dense.", "transform.norm."})
_QKVO = ("q", "k", "v")
_GPT2 = ClassicNaming(
    "h.{}",
    {"embed_tokens.": "wte.", "embed_positions.": "wpe.", "norm.": "ln_f.", "lm_head.": "lm_head."},
    {
        "self_attn.o_proj.": "attn.c_proj.", "self_norm.": "ln_1.", "mlp_norm.": "ln_2.",
        "mlp.fc1.": "mlp.c_fc.", "mlp.fc2.": "mlp.c_proj.",
        "cross_attn.q_proj.": "crossattention.q_attn.",
        "cross_attn.o_proj.": "crossattention.c_proj.", "cross_norm.": "ln_cross_attn.",
    },
    {
        **{f"self_attn.{n}_proj.": ("attn.c_attn.", i, 3) for i, n in enumerate(_QKVO)},
        **{f"cross_attn.{n}_proj.": ("crossattention.c_attn.", i, 2) for i, n in enumerate("kv")},
    },
    COLUMNS,
)  # fmt: skip
_FAIRSEQ = {
    **{f"self_attn.{n}_proj.": f"self_attn.{n}_proj." for n in _QKVO},
    "self_attn.o_proj.": "self_attn.out_proj.", "self_norm.": "self_attn_layer_norm.",
    **{f"cross_attn.{n}_proj.": f"encoder_attn.{n}_proj." for n in _QKVO},
    "cross_attn.o_proj.": "encoder_attn.out_proj.", "cross_norm.": "encoder_attn_layer_norm.",
    "mlp.": "", "mlp_norm.": "final_layer_norm.",
}  # fmt: skip
_OPT = ClassicNaming(
    "layers.{}",
    {
        "embed_tokens.": "embed_tokens.", "embed_positions.": "embed_positions.",
        "norm.": "final_layer_norm.", "lm_head.": "lm_head.",
    },
    _FAIRSEQ,
)  # fmt: skip
_BART = ClassicNaming(
    "layers.{}",
    {
        "embed_tokens.": "embed_tokens.", "embed_positions.": "embed_positions.",
        "embed_norm.": "layernorm_embedding.", "lm_head.": "lm_head.",
    },
    _FAIRSEQ,
)  # fmt: skip
_WORDS = {"query": "q", "key": "k", "value": "v"}
_BERT = ClassicNaming(
    "encoder.layer.{}",
    {
        "embed_tokens.": "embeddings.word_embeddings.",
        "embed_positions.": "embeddings.position_embeddings.",
        "embed_norm.": "embeddings.LayerNorm.",
        "transform.dense.": "predictions.transform.dense.",
        "transform.norm.": "predictions.transform.LayerNorm.",
        "lm_head.": "predictions.decoder.",
        "head_bias": "predictions.bias",
    },
    {
        **{f"self_attn.{n}_proj.": f"attention.self.{word}." for word, n in _WORDS.items()},
        "self_attn.o_proj.": "attention.output.dense.",
        "self_norm.": "attention.output.LayerNorm.",
        **{f"cross_attn.{n}_proj.": f"crossattention.self.{word}." for word, n in _WORDS.items()},
        "cross_attn.o_proj.": "crossattention.output.dense.",
        "cross_norm.": "crossattention.output.LayerNorm.",
        "mlp.fc1.": "intermediate.dense.", "mlp.fc2.": "output.dense.",
        "mlp_norm.": "output.LayerNorm.",
    },
)  # fmt: skip
_T5_ATTENTION = {f"self_attn.{n}_proj.": f"layer.0.SelfAttention.{n}." for n in (*_QKVO, "o")}
_T5_CROSS = {f"cross_attn.{n}_proj.": f"layer.1.EncDecAttention.{n}." for n in (*_QKVO, "o")}
_T5 = ClassicNaming(
    "block.{}",
    {
        "embed_tokens.": "embed_tokens.", "norm.": "final_layer_norm.", "lm_head.": "lm_head.",
        "distances.": "block.0.layer.0.SelfAttention.relative_attention_bias.",
    },
    {
        **_T5_ATTENTION, **_T5_CROSS,
        "self_norm.": "layer.0.layer_norm.", "cross_norm.": "layer.1.layer_norm.",
        "mlp.gate.": "layer.2.DenseReluDense.wi_0.", "mlp.fc1.": "layer.2.DenseReluDense.wi_1.",
        "mlp.fc2.": "layer.2.DenseReluDense.wo.", "mlp_norm.": "layer.2.layer_norm.",
    },
)  # fmt: skip
# T5 v1.0's MLP is not gated, and its first map has another name.
_T5_PLAIN = ClassicNaming(
    _T5.at, _T5.outer,
    {**{a: b for a, b in _T5.parts.items() if a != "mlp.gate."},
     "mlp.fc1.": "layer.2.DenseReluDense.wi."},
)  # fmt: skip


def _alone(decoder: ClassicNaming) -> ClassicNaming:
    """T5's encoder: its MLP stands where a decoder's cross-attention does."""
    parts = {a: b.replace("layer.2.", "layer.1.") for a, b in decoder.parts.items()}
    return ClassicNaming(decoder.at, decoder.outer, parts)


NAMINGS: dict[str, ClassicNaming] = {
    "gpt2": _GPT2, "opt": _OPT, "bart": _BART, "bert": _BERT, "t5": _T5, "t5-plain": _T5_PLAIN,
    "t5-encoder": _alone(_T5), "t5-plain-encoder": _alone(_T5_PLAIN),
}  # fmt: skip


def activation_of(said: PublishedConfig, key: str, usual: str) -> ClassicActivation:
    """Raises Unreadable for one that is not built here."""
    named = said.take(key, usual)
    if named not in _ACTIVATIONS:
        raise Unreadable(
            f"A language model with {key} = {named!r} is not built here.",
            do=f"Known: {', '.join(_ACTIVATIONS)}.",
        )
    return _ACTIVATIONS[named]


def opened(content: Mapping[str, Any], what: str, *passed: str) -> PublishedConfig:
    """A config without what is said of training, of how words are chosen, and `passed`."""
    said = PublishedConfig(content, what)
    for key in (*PASSED_OVER - {"max_position_embeddings", "pad_token_id"}, *passed):
        said.take(key)
    said.take("pad_token_id")
    return said


def gpt2_of_json(content: Mapping[str, Any], memory: int) -> ClassicConfig:
    """From a `GPT2Config`; `memory` as in `ClassicConfig`."""
    said = opened(
        content, "A GPT-2", "attn_pdrop", "embd_pdrop", "resid_pdrop", "summary_activation",
        "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj",
        "n_ctx", "reorder_and_upcast_attn", "is_decoder", "add_cross_attention",
        "gradient_checkpointing",
    )  # fmt: skip
    said.only("scale_attn_weights", True)
    said.only("scale_attn_by_inverse_layer_idx", False)
    width, heads = said.take("n_embd", 768), said.take("n_head", 12)
    config = ClassicConfig(
        vocabulary=said.take("vocab_size", 50_257),
        width=width, heads=heads, head_dim=width // heads,
        depth=said.take("n_layer", 12),
        hidden=said.take("n_inner") or 4 * width,
        activation=activation_of(said, "activation_function", "gelu_new"),
        positions=said.take("n_positions", 1024),
        norm_epsilon=said.take("layer_norm_epsilon", 1e-5),
        memory=memory,
    )  # fmt: skip
    said.end(OF_LIBRARY)
    return config


def opt_of_json(content: Mapping[str, Any]) -> ClassicConfig:
    """From an `OPTConfig`. Raises Unreadable for the one with norms behind its branches."""
    said = opened(
        content, "An OPT", "activation_dropout", "attention_dropout", "dropout", "layerdrop",
        "init_std", "output_projection", "is_decoder",
    )  # fmt: skip
    said.only("do_layer_norm_before", True)
    said.only("_remove_final_layer_norm", False)
    said.only("enable_bias", True)
    said.only("layer_norm_elementwise_affine", True)
    width, heads = said.take("hidden_size", 768), said.take("num_attention_heads", 12)
    said.only("word_embed_proj_dim", width, None)
    config = ClassicConfig(
        vocabulary=said.take("vocab_size", 50_272),
        width=width, heads=heads, head_dim=width // heads,
        depth=said.take("num_hidden_layers", 12),
        hidden=said.take("ffn_dim", 3072),
        activation=activation_of(said, "activation_function", "relu"),
        positions=said.take("max_position_embeddings", 2048),
        offset=2,
    )  # fmt: skip
    said.end(OF_LIBRARY)
    return config


def bert_of_json(content: Mapping[str, Any], what: str, **changes: Any) -> ClassicConfig:
    """From the config of BERT's layers; `changes`: what the family decides."""
    said = opened(
        content, what, "encoder_hidden_size", "label_smoothing", "use_fp16", "is_decoder",
        "projection_dim", "attention_dropout", "type_vocab_size", "add_cross_attention",
    )  # fmt: skip
    said.only("position_embedding_type", "absolute")
    width, heads = said.take("hidden_size", 768), said.take("num_attention_heads", 8)
    config = ClassicConfig(
        vocabulary=said.take("vocab_size", 30_524),
        width=width, heads=heads, head_dim=width // heads,
        depth=said.take("num_hidden_layers", 12),
        hidden=said.take("intermediate_size", 3072),
        activation=activation_of(said, "hidden_act", "gelu"),
        positions=said.take("max_position_embeddings", 512),
        norm_epsilon=said.take("layer_norm_eps", 1e-12),
        post_norm=True, embed_norm=True, final_norm=False,
        **changes,
    )  # fmt: skip
    said.end(OF_LIBRARY | {"dropout"})
    return config


def t5_of_json(content: Mapping[str, Any]) -> ClassicConfig:
    """The decoder of a `T5Config`."""
    said = opened(
        content, "A T5", "classifier_dropout", "dropout_rate", "is_encoder_decoder", "n_positions",
        "output_past", "is_gated_act", "dense_act_fn", "num_layers",
    )  # fmt: skip
    kind = said.take("feed_forward_proj", "relu")
    gated = kind.startswith("gated-")
    if kind not in ("gated-gelu", "relu"):
        raise Unreadable(f"A T5 with feed_forward_proj = {kind!r} is not built here.")
    width = said.take("d_model", 512)
    shrunk = content.get("scale_decoder_outputs", content.get("tie_word_embeddings", True))
    config = ClassicConfig(
        vocabulary=said.take("vocab_size", 32_128),
        width=width, memory=width,
        depth=said.take("num_decoder_layers") or content.get("num_layers", 6),
        heads=said.take("num_heads", 8), head_dim=said.take("d_kv", 64),
        hidden=said.take("d_ff", 2048),
        activation="gelu_tanh" if gated else "relu", gated=gated,
        positions=0,
        buckets=said.take("relative_attention_num_buckets", 32),
        distance=said.take("relative_attention_max_distance", 128),
        norm="rms", norm_epsilon=said.take("layer_norm_epsilon", 1e-6),
        bias=False, scaled=False, shrunk=bool(shrunk),
    )  # fmt: skip
    said.take("scale_decoder_outputs")
    said.end(OF_LIBRARY)
    return config


_BART_SIDES: dict[str, Callable[[int], dict[str, Any]]] = {
    "encoder": lambda width: {"vocabulary": 0, "memory": 0},
    "decoder": lambda width: {"memory": width},
}


def bart_of_json(content: Mapping[str, Any], side: str) -> ClassicConfig:
    """The `encoder` or `decoder` of a `BartConfig`; the encoder's words are the decoder's."""
    other = "encoder" if side == "decoder" else "decoder"
    said = opened(
        content, "A BART", "activation_dropout", "attention_dropout", "classifier_dropout",
        "classif_dropout", "encoder_layerdrop", "decoder_layerdrop", "init_std",
        "is_encoder_decoder", "num_hidden_layers", "add_bias_logits", "add_final_layer_norm",
        "normalize_before", "normalize_embedding", "gradient_checkpointing", "dropout",
        "is_decoder", f"{other}_layers", f"{other}_attention_heads", f"{other}_ffn_dim",
    )  # fmt: skip
    width, heads = said.take("d_model", 1024), said.take(f"{side}_attention_heads", 16)
    config = ClassicConfig(
        vocabulary=said.take("vocab_size", 50_265),
        width=width, heads=heads, head_dim=width // heads,
        depth=said.take(f"{side}_layers", 12),
        hidden=said.take(f"{side}_ffn_dim", 4096),
        activation=activation_of(said, "activation_function", "gelu"),
        positions=said.take("max_position_embeddings", 1024),
        offset=2, post_norm=True, embed_norm=True, final_norm=False,
        grown=said.take("scale_embedding", False),
    )  # fmt: skip
    said.end(OF_LIBRARY)
    return replace(config, **_BART_SIDES[side](width))
