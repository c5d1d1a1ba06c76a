"""What tells one of the older language models from another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from diptych.decoding.slots import KVShape

ClassicActivation = Literal["gelu", "gelu_tanh", "relu", "quick_gelu"]


@dataclass(frozen=True, kw_only=True)
class ClassicConfig:
    """`positions`: learnt places, the first `offset` of which are no word's (OPT, BART: 2); 0 for
    none. `buckets`: of distances between words in their place, all beyond `distance` one (T5).

    `post_norm`: norms stand behind each branch (BERT, BART), else before it. `embed_norm`: behind
    words and places; `final_norm`: behind the last layer. `norm`: `rms` is without mean and bias.
    `scaled`: scores are divided by the root of `head_dim`. `gated`: one half of the hidden units
    lets through the other. `grown`: words are multiplied by the root of the width (BART).

    `memory`: width of what layers look at besides, in cross-attention; 0 for none. `vocabulary`: 0
    for a network without words. `tied`: the output's weights are the words'; `shrunk`: states are
    divided by the root of the width before it (T5 v1.0). `head_bias`: of the output; `transform`:
    a layer with GELU and norm before it (BERT).
    """

    vocabulary: int = 50_257
    width: int = 768
    depth: int = 12
    heads: int = 12
    head_dim: int = 64
    hidden: int = 3072
    activation: ClassicActivation = "gelu_tanh"
    positions: int = 1024
    offset: int = 0
    buckets: int = 0
    distance: int = 128
    post_norm: bool = False
    embed_norm: bool = False
    final_norm: bool = True
    norm: Literal["layer", "rms"] = "layer"
    norm_epsilon: float = 1e-5
    bias: bool = True
    scaled: bool = True
    gated: bool = False
    grown: bool = False
    memory: int = 0
    tied: bool = True
    shrunk: bool = False
    head_bias: bool = False
    transform: bool = False

    @classmethod
    def tiny(cls, **changes: Any) -> ClassicConfig:
        small = cls(
            vocabulary=40, width=24, depth=2, heads=3, head_dim=8, hidden=40, positions=32,
            memory=20, tied=False, head_bias=True,
        )  # fmt: skip
        return replace(small, **changes)

    @property
    def kv(self) -> KVShape:
        """What is kept of a place; of what is looked at besides as much, in front."""
        return KVShape(depth=self.depth, groups=self.heads, head_dim=self.head_dim)


GPT2 = ClassicConfig()
OPT_27B = ClassicConfig(
    vocabulary=50_272, width=2560, depth=32, heads=32, head_dim=80, hidden=10_240,
    activation="relu", positions=2048, offset=2,
)  # fmt: skip
BERT_DECODER = ClassicConfig(
    vocabulary=30_522, activation="gelu", positions=512, post_norm=True, embed_norm=True,
    final_norm=False, norm_epsilon=1e-12, head_bias=True, transform=True,
)  # fmt: skip
T5_XL = ClassicConfig(
    vocabulary=32_128, width=2048, depth=24, heads=32, hidden=5120, positions=0, buckets=32,
    norm="rms", norm_epsilon=1e-6, bias=False, scaled=False, gated=True, memory=2048, tied=False,
)  # fmt: skip
BART = ClassicConfig(
    vocabulary=51_289, depth=6, activation="gelu", positions=1024, offset=2, post_norm=True,
    embed_norm=True, final_norm=False, memory=768,
)  # fmt: skip
