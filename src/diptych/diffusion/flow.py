"""Rectified flow: nodes in time and the Euler step. t = 1 is noise, x = (1 - t) x0 + t noise."""

from __future__ import annotations

from torch import Tensor

from diptych.foundation.errors import InvalidValue


def flow_nodes(steps: int, shift: float = 1.0) -> list[float]:
    """Times from 1 to 0, `steps` + 1 of them, moved towards noise by `shift` (Esser et al.,
    2024, eq. 23): t' = shift t / (1 + (shift - 1) t). Raises InvalidValue."""
    if not 1 <= steps <= 1000:
        raise InvalidValue(f"{steps} steps are not offered.", do="Choose 1 to 1000.")
    if not shift > 0:
        raise InvalidValue(f"A shift of {shift} is not offered.", do="Choose one above 0.")
    times = [1 - i / steps for i in range(steps + 1)]
    return [shift * t / (1 + (shift - 1) * t) for t in times]


def euler_step(x: Tensor, velocity: Tensor, t: float, following: float) -> Tensor:
    """x [B, C, H, W] at `t` -> x at `following`, along velocity = dx/dt"""
    return x + (following - t) * velocity
