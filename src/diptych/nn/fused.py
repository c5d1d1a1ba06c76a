"""Linear maps of one input as one matrix product, its weights laid as fits a CPU.

With few rows a product reads its weights and does little else. Laid as (in, out), one row takes no
longer than laid as (out, in), and eight take half as long (torch 2.13, one thread;
`python -m benchmarks.i2t_decode layouts`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Fused:
    """What several layers make of one input, side by side. Their parameters become parts of one
    tensor, so that nothing is kept twice; train them no further."""

    def __init__(self, layers: Sequence[nn.Linear | nn.Embedding]):
        """An embedding is a map from its vectors' space to its words."""
        weights = torch.cat([layer.weight.detach() for layer in layers])
        maps = [layer for layer in layers if isinstance(layer, nn.Linear)]
        biases = [layer.bias for layer in maps if layer.bias is not None]
        if biases and len(biases) != len(layers):
            raise ValueError("some of the layers have a bias and others none")
        self.weight = weights.T.contiguous()
        self.bias = torch.cat([bias.detach() for bias in biases]) if biases else None
        sizes = [len(layer.weight) for layer in layers]
        for layer, part in zip(layers, self.weight.T.split(sizes), strict=True):
            layer.weight = nn.Parameter(part, requires_grad=False)
        if self.bias is not None:
            for layer, part in zip(maps, self.bias.split(sizes), strict=True):
                layer.bias = nn.Parameter(part, requires_grad=False)

    def __call__(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., outputs]"""
        if x.ndim > 2:
            return self(x.flatten(0, -2)).unflatten(0, x.shape[:-1])
        if self.bias is None:
            return torch.mm(x, self.weight)
        return torch.addmm(self.bias, x, self.weight)
