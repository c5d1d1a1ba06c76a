"""Transformer parts: row-stable linear, MLP, self-attention block."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, pad

from diptych.nn.attention import attend, join_heads, split_heads
from diptych.nn.norms import RMSNorm
from diptych.nn.positions import rotate

_STABLE_ROWS = 4


class RowLinear(nn.Linear):
    """A linear map of `[B, C]` whose rows do not depend on how many there are.

    Matrix kernels choose their way, and with it their rounding, by the number of rows: below 4 on
    one CPU, below 15 on another (torch 2.13, one thread). So rows go through by fours, always.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[B, C] -> [B, D]"""
        return row_linear(input, self.weight, self.bias)


def row_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[B, C] -> [B, D], as RowLinear."""
    if torch.is_grad_enabled():
        return linear(input, weight, bias)
    rows = len(input)
    padded = pad(input, (0, 0, 0, -rows % _STABLE_ROWS))
    if rows <= _STABLE_ROWS:
        return linear(padded, weight, bias)[:rows]
    fours = padded.split(_STABLE_ROWS)
    return torch.cat([linear(four, weight, bias) for four in fours])[:rows]


class MLP(nn.Module):
    """Two linear maps with a GELU between."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]"""
        return self.down(gelu(self.up(x), approximate="tanh"))


class SelfAttention(nn.Module):
    """Multi-head self-attention with RMS-normed queries and keys (Dehghani et al., 2023)."""

    def __init__(self, width: int, head_dim: int):
        super().__init__()
        self.head_dim = head_dim
        self.qkv = nn.Linear(width, 3 * width)
        self.query_norm, self.key_norm = RMSNorm(head_dim), RMSNorm(head_dim)
        self.out = nn.Linear(width, width)

    def heads(self, x: Tensor, angles: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """[B, N, D] -> query, key, value [B, H, N, head_dim], turned to their positions."""
        q, k, v = (split_heads(part, self.head_dim) for part in self.qkv(x).chunk(3, dim=-1))
        q, k = self.query_norm(q), self.key_norm(k)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        return q, k, v

    def forward(
        self, x: Tensor, angles: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """x [B, N, D], mask [B or 1, 1, N or 1, N] (True: may look) -> [B, N, D]"""
        return self.out(join_heads(attend(*self.heads(x, angles), mask)))


class KeysAndValues(nn.Module):
    """What others look at: the half of `SelfAttention` that asks nothing itself."""

    def __init__(self, width: int, head_dim: int):
        super().__init__()
        self.head_dim = head_dim
        self.kv = nn.Linear(width, 2 * width)
        self.key_norm = RMSNorm(head_dim)

    def forward(self, x: Tensor, angles: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[B, N, D] -> key, value [B, H, N, head_dim], turned to their positions."""
        k, v = (split_heads(part, self.head_dim) for part in self.kv(x).chunk(2, dim=-1))
        k = self.key_norm(k)
        return (k if angles is None else rotate(k, angles)), v


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, head_dim: int, hidden: int):
        super().__init__()
        self.attention_norm, self.attention = RMSNorm(width), SelfAttention(width, head_dim)
        self.mlp_norm, self.mlp = RMSNorm(width), MLP(width, hidden)

    def forward(
        self, x: Tensor, angles: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """x [B, N, D] -> [B, N, D]"""
        x = x + self.attention(self.attention_norm(x), angles, mask)
        return x + self.mlp(self.mlp_norm(x))


def zero_init(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """The layer with nothing in it: what it feeds starts unchanged."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
