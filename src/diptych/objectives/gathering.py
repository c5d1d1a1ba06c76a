"""Rows of all processes of a parallel training, with gradients to each process's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def first_row(own: Tensor) -> int:
    """Where this process's rows begin among all, which have equally many each."""
    return distributed.get_rank() * len(own) if _several() else 0


def gathered(own: Tensor) -> Tensor:
    """own [B, D] -> [processes * B, D], in the order of processes.

    The gradient of a process's rows is the sum of what all processes make of them, so that the
    mean of all processes' gradients is that of the mean of their losses.
    """
    return _Gathered.apply(own) if _several() else own


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, own.contiguous())
        context.rows = len(own)
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].contiguous().clone()
        distributed.all_reduce(whole)
        first = distributed.get_rank() * context.rows
        return whole[first : first + context.rows]
