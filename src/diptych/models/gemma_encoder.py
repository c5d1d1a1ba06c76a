"""Gemma (Gemma Team, 2024) and Gemma 2, whose states after each layer Lumina reads words from: a
causal transformer without its head. Names are those of the published folders of such a model,
`embed_tokens.weight`; a whole language model has `model.` before them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from diptych.nn.attention import attend, attend_capped, join_heads, split_heads, spread
from diptych.nn.norms import PlusOneNorm
from diptych.nn.positions import rotary_pairs, rotate


@dataclass(frozen=True, kw_only=True)
class GemmaConfig:
    """`groups`: heads of keys and values, which several heads of queries share.

    Gemma 2 alone has the rest: `sandwich`, norms after each branch too; `cap` of the scores of
    attention, 0 for none; `window`, how far back every other layer looks, beginning with the
    first, 0 for all the way. `scale_width`: scores are divided by its root, 0 for the head's.
    """

    vocabulary: int = 256_000
    width: int = 2048
    depth: int = 18
    heads: int = 8
    groups: int = 1
    head_dim: int = 256
    hidden: int = 16_384
    base: float = 10_000.0
    norm_epsilon: float = 1e-6
    sandwich: bool = False
    cap: float = 0.0
    window: int = 0
    scale_width: int = 0

    def __post_init__(self) -> None:
        if self.heads % self.groups:
            raise ValueError(f"{self.heads} heads do not part into {self.groups} groups")

    @classmethod
    def tiny(cls, **changes: Any) -> GemmaConfig:
        small = cls(
            vocabulary=40, width=24, depth=3, heads=4, groups=2, head_dim=8, hidden=40,
            sandwich=True, cap=5.0, window=3, scale_width=12,
        )  # fmt: skip
        return replace(small, **changes)


GEMMA_2B = GemmaConfig()
GEMMA2_2B = GemmaConfig(
    width=2304, depth=26, groups=4, hidden=9216, sandwich=True, cap=50.0, window=4096,
    scale_width=256,
)  # fmt: skip


class GemmaStates(NamedTuple):
    """`layers`: depth + 1 states [B, L, D], the embeddings first, none normed; `last` [B, L, D]:
    the last of them after the final norm."""

    layers: tuple[Tensor, ...]
    last: Tensor


class GemmaEncoder(nn.Module):
    """Tokens to their states after every layer."""

    def __init__(self, config: GemmaConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.depth))
        self.norm = PlusOneNorm(config.width, config.norm_epsilon)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> GemmaStates:
        """tokens [B, L] int64, mask [B, L] bool (True: a token; padding may stand on either side,
        and its own states mean nothing)"""
        length, device, weight = tokens.shape[1], tokens.device, self.embed_tokens.weight
        places = torch.arange(length, device=device)
        back = places[:, None] - places
        seen = (back >= 0)[None, None]
        if mask is not None:
            # What pads looks at itself: a row that may look nowhere is no number.
            seen = seen & (mask[:, None, None] | (back == 0))
        near = seen & (back < self.config.window) if self.config.window else seen
        wide = torch.promote_types(weight.dtype, torch.float32)
        turns = rotary_pairs(places[:, None], (self.config.head_dim,), self.config.base)
        turns = turns.to(device, wide)
        # Rounded to the weights' type, as it was trained.
        scale = torch.tensor(self.config.width**0.5, dtype=weight.dtype, device=device)
        states = [self.embed_tokens(tokens) * scale]
        for number, layer in enumerate(self.layers):
            states.append(layer(states[-1], turns, seen if number % 2 else near))
        return GemmaStates(tuple(states), self.norm(states[-1]))


class _Attention(nn.Module):
    def __init__(self, config: GemmaConfig):
        super().__init__()
        width, self.head_dim, self.heads = config.width, config.head_dim, config.heads
        own, shared = config.heads * config.head_dim, config.groups * config.head_dim
        self.cap = config.cap
        self.scale = (config.head_dim / (config.scale_width or config.head_dim)) ** 0.5
        self.q_proj = nn.Linear(width, own, bias=False)
        self.k_proj = nn.Linear(width, shared, bias=False)
        self.v_proj = nn.Linear(width, shared, bias=False)
        self.o_proj = nn.Linear(own, width, bias=False)

    def forward(self, x: Tensor, turns: Tensor, seen: Tensor) -> Tensor:
        """x [B, L, D], turns [2, L, head_dim / 2], seen [B or 1, 1, L, L] -> [B, L, D]"""
        parts = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        q, k, v = (split_heads(part, self.head_dim) for part in parts)
        q, k = self.scale * rotate(q, turns), spread(rotate(k, turns), self.heads)
        v = spread(v, self.heads)
        out = attend_capped(q, k, v, seen, self.cap) if self.cap else attend(q, k, v, seen)
        return self.o_proj(join_heads(out))


class _MLP(nn.Module):
    def __init__(self, config: GemmaConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.up_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.down_proj = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]"""
        return self.down_proj(gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class _Layer(nn.Module):
    """Attention, then an MLP. In Gemma the norm before the MLP is named as the one behind the
    attention is in Gemma 2."""

    def __init__(self, config: GemmaConfig):
        super().__init__()
        self.self_attn, self.mlp = _Attention(config), _MLP(config)
        self.input_layernorm = PlusOneNorm(config.width, config.norm_epsilon)
        self.post_attention_layernorm = PlusOneNorm(config.width, config.norm_epsilon)
        self.pre_feedforward_layernorm = (
            PlusOneNorm(config.width, config.norm_epsilon) if config.sandwich else None
        )
        self.post_feedforward_layernorm = (
            PlusOneNorm(config.width, config.norm_epsilon) if config.sandwich else None
        )

    def forward(self, x: Tensor, turns: Tensor, seen: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]"""
        seen_of = self.self_attn(self.input_layernorm(x), turns, seen)
        before, after = self.pre_feedforward_layernorm, self.post_feedforward_layernorm
        if before is None or after is None:
            x = x + seen_of
            return x + self.mlp(self.post_attention_layernorm(x))
        x = x + self.post_attention_layernorm(seen_of)
        return x + after(self.mlp(before(x)))
