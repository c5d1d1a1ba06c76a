"""The transformer of CLIP's two towers (Radford et al., 2021, section 2.4), with the names of the
published folders."""

from __future__ import annotations

from functools import partial
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from diptych.nn.attention import attend, join_heads, split_heads
from diptych.nn.norms import RMSNorm


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
    """A pre-norm transformer block."""

    def __init__(self, config: ClipShape):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.self_attn = ClipAttention(config.width, config.heads)
        self.layer_norm2 = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.mlp = ClipMLP(config.width, config.hidden, config.activation)

    def forward(self, h: Tensor, seen: Tensor | None = None) -> Tensor:
        """[B, L, D] -> [B, L, D]"""
        h = h + self.self_attn(self.layer_norm1(h), seen)
        return h + self.mlp(self.layer_norm2(h))


class ClipAttention(nn.Module):
    """Multi-head self-attention. `bias`: of query, key and value; `qk_norm`: queries and keys are
    RMS-normed over all heads together."""

    def __init__(self, width: int, heads: int, *, bias: bool = True, qk_norm: bool = False):
        super().__init__()
        self.head_dim = width // heads
        self.q_proj, self.k_proj = nn.Linear(width, width, bias), nn.Linear(width, width, bias)
        self.v_proj, self.out_proj = nn.Linear(width, width, bias), nn.Linear(width, width)
        self.q_norm = RMSNorm(width) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(width) if qk_norm else nn.Identity()

    def forward(self, h: Tensor, seen: Tensor | None = None) -> Tensor:
        """h [B, L, D], seen [B or 1, 1, L or 1, L] (None: all) -> [B, L, D]"""
        parts = self.q_norm(self.q_proj(h)), self.k_norm(self.k_proj(h)), self.v_proj(h)
        q, k, v = (split_heads(part, self.head_dim) for part in parts)
        return self.out_proj(join_heads(attend(q, k, v, seen)))


class ClipMLP(nn.Module):
    """`linear`: RowLinear where [B, D] is read."""

    def __init__(
        self,
        width: int,
        hidden: int,
        activation: Activation,
        linear: type[nn.Linear] = nn.Linear,
    ):
        super().__init__()
        self.activation = _ACTIVATIONS[activation]
        self.fc1, self.fc2 = linear(width, hidden), linear(hidden, width)

    def forward(self, h: Tensor) -> Tensor:
        """[..., D] -> [..., D]"""
        return self.fc2(self.activation(self.fc1(h)))


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x): the GELU's first approximation (Hendrycks and Gimpel, 2016)."""
    return x * torch.sigmoid(1.702 * x)


_ACTIVATIONS = {
    "quick_gelu": quick_gelu,
    "gelu": gelu,
    "gelu_tanh": partial(gelu, approximate="tanh"),
}
