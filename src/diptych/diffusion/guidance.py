"""Classifier-free guidance (Ho and Salimans, 2022)."""

from __future__ import annotations

from torch import Tensor


def guided(unconditional: Tensor, conditional: Tensor, guidance: float | Tensor) -> Tensor:
    """unconditional + guidance (conditional - unconditional); 1 is the conditional alone."""
    return unconditional + guidance * (conditional - unconditional)
