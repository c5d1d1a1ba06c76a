"""A layer of the older language models: attention to words, to a memory beside them, and an MLP,
with norms before or behind each."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, relu

from diptych.models.classic_config import ClassicConfig
from diptych.models.classic_sight import Kept, Sight
from diptych.models.clip_blocks import quick_gelu
from diptych.nn.attention import attend, join_heads, split_heads
from diptych.nn.fused import Fused
from diptych.nn.norms import RMSNorm

ACTIVATIONS = {
    "gelu": gelu, "gelu_tanh": partial(gelu, approximate="tanh"), "relu": relu,
    "quick_gelu": quick_gelu,
}  # fmt: skip


def norm_of(config: ClassicConfig) -> nn.Module:
    """The family's norm of its states."""
    if config.norm == "rms":
        return RMSNorm(config.width, config.norm_epsilon)
    return nn.LayerNorm(config.width, eps=config.norm_epsilon)


class ClassicAttention(nn.Module):
    """Every head has keys and values of its own; they are made of rows of width `seen`."""

    def __init__(self, config: ClassicConfig, seen: int):
        super().__init__()
        self.head_dim, width, bias = config.head_dim, config.width, config.bias
        self.scale = None if config.scaled else 1.0
        inner = config.heads * config.head_dim
        self.q_proj = nn.Linear(width, inner, bias=bias)
        self.k_proj, self.v_proj = (nn.Linear(seen, inner, bias=bias) for _ in range(2))
        self.o_proj = nn.Linear(inner, width, bias=bias)
        self.fused: Fused | None = None

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, N, D] -> queries, keys and values [B, H, N, E]"""
        if self.fused is not None:
            parts = self.fused(x).chunk(3, dim=-1)
        else:
            parts = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        q, k, v = (split_heads(part, self.head_dim) for part in parts)
        return q, k, v

    def memory(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """rows [B, M, D] -> keys and values [B, H, M, E]"""
        parts = self.k_proj(rows), self.v_proj(rows)
        return split_heads(parts[0], self.head_dim), split_heads(parts[1], self.head_dim)


class ClassicLayer(nn.Module):
    def __init__(self, config: ClassicConfig, number: int):
        super().__init__()
        self.number, self.post_norm = number, config.post_norm
        self.self_attn, self.self_norm = ClassicAttention(config, config.width), norm_of(config)
        crosses = config.memory > 0
        self.cross_attn = ClassicAttention(config, config.memory) if crosses else None
        self.cross_norm = norm_of(config) if crosses else None
        self.mlp, self.mlp_norm = ClassicMLP(config), norm_of(config)

    def forward(self, h: Tensor, sight: Sight) -> Tensor:
        """[B, N, D] -> [B, N, D]"""
        q, k, v = self.self_attn.heads(self._before(h, self.self_norm))
        looked = sight.words(self.number, q, k, v, self.self_attn.scale)
        h = self._after(h, self.self_attn.o_proj(join_heads(looked)), self.self_norm)
        if self.cross_attn is not None and self.cross_norm is not None:
            seen = self._cross(self.cross_attn, self._before(h, self.cross_norm), sight)
            h = h if seen is None else self._after(h, seen, self.cross_norm)
        return self._after(h, self.mlp(self._before(h, self.mlp_norm)), self.mlp_norm)

    def _cross(self, attention: ClassicAttention, x: Tensor, sight: Sight) -> Tensor | None:
        """What words [B, N, D] see of the memory; None where there is none."""
        q = split_heads(attention.q_proj(x), attention.head_dim)
        if isinstance(sight, Kept):
            looked = sight.cross(self.number, q, attention.scale)
        elif sight.memory is None:
            return None
        else:
            keys, values = attention.memory(sight.memory)
            looked = attend(q, keys, values, sight.filled, attention.scale)
        return attention.o_proj(join_heads(looked))

    def _before(self, h: Tensor, norm: nn.Module) -> Tensor:
        return h if self.post_norm else norm(h)

    def _after(self, h: Tensor, branch: Tensor, norm: nn.Module) -> Tensor:
        return norm(h + branch) if self.post_norm else h + branch

    def pack(self) -> None:
        """As `ClassicDecoder.pack`."""
        own = self.self_attn
        own.fused = Fused([own.q_proj, own.k_proj, own.v_proj])
        inner = [self.mlp.fc1, *([self.mlp.gate] if self.mlp.gate is not None else [])]
        for one in (*inner, self.mlp.fc2, own.o_proj):
            Fused([one])  # laid the same way


class ClassicMLP(nn.Module):
    """Two maps; with `gated` the activation of a third lets through the first's (T5 v1.1)."""

    def __init__(self, config: ClassicConfig):
        super().__init__()
        width, hidden, bias = config.width, config.hidden, config.bias
        self.activation = ACTIVATIONS[config.activation]
        self.fc1 = nn.Linear(width, hidden, bias=bias)
        self.gate = nn.Linear(width, hidden, bias=bias) if config.gated else None
        self.fc2 = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]"""
        if self.gate is None:
            return self.fc2(self.activation(self.fc1(x)))
        return self.fc2(self.activation(self.gate(x)) * self.fc1(x))


class WordHead(nn.Module):
    """BERT's layer before its words: a map, GELU and a norm (Devlin et al., 2019)."""

    def __init__(self, config: ClassicConfig):
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)

    def forward(self, h: Tensor) -> Tensor:
        """[..., D] -> [..., D]"""
        return self.norm(self.activation(self.dense(h)))


def causal(count: int, device: torch.device) -> Tensor:
    """[1, 1, N, N]: a row sees itself and the rows before it."""
    places = torch.arange(count, device=device)
    return (places <= places[:, None])[None, None]
