"""The transformer of CLIP's two towers (Radford et al., 2021, section 2.4), with the names of the
published folders."""

from __future__ import annotations

from functools import partial
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from diptych.nn.attention import attend, join_heads, split_heads


class ClipShape(Protocol):
    """What the layers need of either tower's config."""

    @property
    def width(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def activation(self) -> Activation: ...
    @property
    def norm_epsilon(self) -> float: ...


Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]


class ClipLayers(nn.Module):
    def __init__(self, config: ClipShape):
        super().__init__()
        self.layers = nn.ModuleList(ClipLayer(config) for _ in range(config.depth))

    def forward(self, h: Tensor, seen: Tensor | None = None) -> tuple[Tensor, ...]:
        """h [B, L, D], seen [B or 1, 1, L, L] (None: all) -> h and what each layer made of it"""
        states = [h]
        for layer in self.layers:
            states.append(layer(states[-1], seen))
        return tuple(states)


class ClipLayer(nn.Module):
    """A pre-norm transformer block; with `scaled`, each branch is multiplied channel by channel
    (Touvron et al., 2021, LayerScale)."""

    def __init__(self, config: ClipShape, *, scaled: bool = False, bias: bool = True):
        """`bias` of queries, keys and values."""
        super().__init__()
        self.scale1 = nn.Parameter(torch.full((config.width,), 0.1)) if scaled else None
        self.scale2 = nn.Parameter(torch.full((config.width,), 0.1)) if scaled else None
        self.layer_norm1 = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.self_attn = _Attention(config, bias)
        self.layer_norm2 = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.mlp = _MLP(config)

    def forward(self, h: Tensor, seen: Tensor | None = None) -> Tensor:
        """[B, L, D] -> [B, L, D]"""
        seen_of = self.self_attn(self.layer_norm1(h), seen)
        h = h + (seen_of if self.scale1 is None else self.scale1 * seen_of)
        made = self.mlp(self.layer_norm2(h))
        return h + (made if self.scale2 is None else self.scale2 * made)


class _Attention(nn.Module):
    def __init__(self, config: ClipShape, bias: bool):
        super().__init__()
        width = config.width
        self.head_dim = width // config.heads
        self.q_proj = nn.Linear(width, width, bias=bias)
        self.k_proj = nn.Linear(width, width, bias=bias)
        self.v_proj = nn.Linear(width, width, bias=bias)
        self.out_proj = nn.Linear(width, width)

    def forward(self, h: Tensor, seen: Tensor | None = None) -> Tensor:
        """h [B, L, D], seen [B or 1, 1, L, L] (None: all) -> [B, L, D]"""
        parts = self.q_proj(h), self.k_proj(h), self.v_proj(h)
        q, k, v = (split_heads(part, self.head_dim) for part in parts)
        return self.out_proj(join_heads(attend(q, k, v, seen)))


class _MLP(nn.Module):
    def __init__(self, config: ClipShape):
        super().__init__()
        self.activation = _ACTIVATIONS[config.activation]
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.width)

    def forward(self, h: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]"""
        return self.fc2(self.activation(self.fc1(h)))


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x): the GELU's first approximation (Hendrycks and Gimpel, 2016)."""
    return x * torch.sigmoid(1.702 * x)


_ACTIVATIONS = {
    "quick_gelu": quick_gelu, "gelu": gelu, "gelu_tanh": partial(gelu, approximate="tanh")
}  # fmt: skip
