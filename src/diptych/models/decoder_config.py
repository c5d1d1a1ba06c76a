"""What tells one language model of LLaMA's layout from another, and published sizes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from diptych.decoding.slots import KVShape
from diptych.nn.rope import RotaryConfig


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """`groups`: heads of keys and values, which several heads of queries share.

    `bias` of queries, keys and values (Qwen 2); `head_norm` of queries and keys (Qwen 3);
    `unturned_each`: every so many layers know no places (SmolLM 3), 0 for none. `window`: how far
    back a layer looks, 0 for all the way; `full_each`: every so many layers look all the way
    nevertheless, 0 for none. Gemma has the rest: `plus_one`, norms that multiply by 1 + weight;
    `scaled` embeddings, times the root of the width; `sandwich`, norms behind each branch too;
    `cap` of scores and `final_cap` of logits, 0 for none; `scale_width`: scores are divided by its
    root, 0 for the head's; `local_base`: of places in layers with a window, 0 for the same.
    `tied`: the output's weights are the embedding's.
    """

    vocabulary: int = 32_000
    width: int = 4096
    depth: int = 32
    heads: int = 32
    groups: int = 32
    head_dim: int = 128
    hidden: int = 11_008
    activation: Literal["silu", "gelu_tanh"] = "silu"
    norm_epsilon: float = 1e-5
    rotary: RotaryConfig = field(default_factory=RotaryConfig)
    tied: bool = False
    bias: bool = False
    head_norm: bool = False
    unturned_each: int = 0
    window: int = 0
    full_each: int = 0
    plus_one: bool = False
    scaled: bool = False
    sandwich: bool = False
    cap: float = 0.0
    final_cap: float = 0.0
    scale_width: int = 0
    local_base: float = 0.0

    def __post_init__(self) -> None:
        if self.heads % self.groups:
            raise ValueError(f"{self.heads} heads do not part into {self.groups} groups")

    @classmethod
    def tiny(cls, **changes: Any) -> DecoderConfig:
        small = cls(
            vocabulary=40, width=24, depth=3, heads=4, groups=2, head_dim=8, hidden=40
        )  # fmt: skip
        return replace(small, **changes)

    @property
    def kv(self) -> KVShape:
        """What is kept of a place."""
        return KVShape(depth=self.depth, groups=self.groups, head_dim=self.head_dim)

    def window_of(self, layer: int) -> int:
        """How far back a layer looks, 0 for all the way."""
        return 0 if self.full_each and (layer + 1) % self.full_each == 0 else self.window


SMOLLM2_135M = DecoderConfig(
    vocabulary=49_152, width=576, depth=30, heads=9, groups=3, head_dim=64, hidden=1536,
    rotary=RotaryConfig(base=100_000.0), tied=True,
)  # fmt: skip
QWEN2_05B = DecoderConfig(
    vocabulary=151_936, width=896, depth=24, heads=14, groups=2, head_dim=64, hidden=4864,
    norm_epsilon=1e-6, rotary=RotaryConfig(base=1e6), tied=True, bias=True,
)  # fmt: skip
QWEN3_06B = DecoderConfig(
    vocabulary=151_936, width=1024, depth=28, heads=16, groups=8, head_dim=128, hidden=3072,
    norm_epsilon=1e-6, rotary=RotaryConfig(base=1e6), tied=True, head_norm=True,
)  # fmt: skip
PHI3_MINI = DecoderConfig(
    vocabulary=32_064, width=3072, depth=32, heads=32, groups=32, head_dim=96, hidden=8192,
    window=2047,
)  # fmt: skip
