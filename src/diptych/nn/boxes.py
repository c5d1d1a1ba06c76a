"""Boxes as center, width and height."""

from __future__ import annotations

import torch
from torch import Tensor


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes [..., N, 4] and [..., M, 4] -> [..., N, M], 0..1"""
    a, b = a[..., :, None, :], b[..., None, :, :]
    low = torch.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = torch.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    shared = (high - low).clamp(min=0).prod(-1)
    return shared / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared).clamp(min=1e-9)
