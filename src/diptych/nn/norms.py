"""Root mean square norm (Zhang and Sennrich, 2019), and norms whose gain is told from outside."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, rms_norm

_EPSILON = 1e-6


class RMSNorm(nn.Module):
    """Over the last dimension. The gain is multiplied apart: the fused kernel of torch 2.13
    refuses a float32 gain beside a bfloat16 input and falls back to a slow one."""

    def __init__(self, width: int, epsilon: float = _EPSILON):
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]"""
        return bare_norm(x, self.epsilon) * self.weight.to(x.dtype)


class PlusOneNorm(nn.Module):
    """Its gain is 1 + weight, multiplied before anything is rounded (Gemma Team, 2024)."""

    plus = 1

    def __init__(self, width: int, epsilon: float = _EPSILON):
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]"""
        wide = torch.promote_types(x.dtype, torch.float32)
        return (bare_norm(x.to(wide), self.epsilon) * (1 + self.weight.to(wide))).to(x.dtype)


def bare_norm(x: Tensor, epsilon: float = _EPSILON) -> Tensor:
    """The norm without a gain, [..., D] -> [..., D]"""
    return rms_norm(x, x.shape[-1:], eps=epsilon)


def bare_layer_norm(x: Tensor, epsilon: float = _EPSILON) -> Tensor:
    """Mean taken off, too (Ba et al., 2016), without gain and bias, [..., D] -> [..., D]"""
    return layer_norm(x, x.shape[-1:], eps=epsilon)
