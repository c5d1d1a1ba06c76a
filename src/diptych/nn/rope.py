"""Rotary positions of language models (Su et al., 2021) with the ways in which they are stretched
to longer texts, and in several axes."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi, sqrt
from typing import Literal

import torch
from torch import Tensor

Stretch = Literal["default", "linear", "llama3", "yarn", "longrope"]


@dataclass(frozen=True, kw_only=True)
class RotaryConfig:
    """`factor`: how many times the `original` length is stretched. `low`, `high`: of llama3, how
    many turns within `original` make a slow or a fast wave; of yarn, its beta_slow and beta_fast.
    `short`, `long`: of longrope, a divisor for each wave within `original` and beyond it;
    `beyond` says which, for a whole model: turned keys stay as they are in the cache.
    `gain`: what cosines and sines are multiplied by, 0 for the way's own formula.
    `sections`: waves for time, row and column (Qwen2-VL; Wang et al., 2024), which then have a
    place each.
    """

    base: float = 10_000.0
    stretch: Stretch = "default"
    factor: float = 1.0
    original: int = 0
    low: float = 1.0
    high: float = 4.0
    short: tuple[float, ...] = ()
    long: tuple[float, ...] = ()
    beyond: bool = False
    gain: float = 0.0
    sections: tuple[int, ...] = ()


class Rotary:
    """Cosines and sines of places, computed once and looked up."""

    def __init__(self, config: RotaryConfig, head_dim: int):
        """Raises ValueError where sections or divisors do not fit the head."""
        if config.sections and sum(config.sections) != head_dim // 2:
            raise ValueError(f"sections {config.sections} are not {head_dim // 2} waves")
        self.config, self.head_dim = config, head_dim
        # Made when it is needed: a network is built where tensors hold nothing.
        self._table: Tensor | None = None

    def __call__(self, places: Tensor, dtype: torch.dtype) -> Tensor:
        """places [B, N], or [B, N, A] with several axes, int64 -> [2, B, N, 1, head_dim] for
        `turn`, of type `dtype`.

        Angles are float32, as language models are trained.
        """
        table = self._up_to(places, dtype)
        if places.ndim == 2:  # one axis, or several that agree
            return table[places].movedim(-2, 0).unsqueeze(-2)
        sections = torch.tensor(self.config.sections, device=places.device)
        axis = torch.arange(len(sections), device=places.device).repeat_interleave(sections)
        axis = torch.cat([axis, axis])
        found = table[places[..., axis], :, torch.arange(len(axis), device=places.device)]
        return found.movedim(-1, 0).unsqueeze(-2)

    def _up_to(self, places: Tensor, dtype: torch.dtype) -> Tensor:
        most = int(places.max()) + 1 if places.numel() else 1
        table = self._table
        if (
            table is None
            or most > len(table)
            or table.dtype != dtype
            or table.device != places.device
        ):
            # Threads that share a model may both come here: each makes the same table.
            length = max(256, 1 << (most - 1).bit_length())
            rates, gain = rates_of(self.config, self.head_dim)
            angles = torch.arange(length, dtype=torch.float32)[:, None] * rates
            cos, sin = angles.cos() * gain, angles.sin() * gain
            both = torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)], dim=1)
            table = self._table = both.to(places.device, dtype)
        return table


def turn(x: Tensor, turns: Tensor) -> Tensor:
    """x [B, N, H, D] turned by turns [2, B, N, 1, D] of `Rotary`; halves are paired, as in
    LLaMA (Touvron et al., 2023)."""
    cos, sin = turns
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def rates_of(config: RotaryConfig, head_dim: int) -> tuple[Tensor, float]:
    """Radians a place of each wave, [head_dim / 2] float32, and the gain of cosines and sines."""
    rates = 1.0 / config.base ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    if config.stretch == "linear":
        rates = rates / config.factor
    elif config.stretch == "llama3":
        rates = _llama3(rates, config)
    elif config.stretch == "yarn":
        rates = _yarn(rates, config, head_dim)
    elif config.stretch == "longrope":
        divisors = config.long if config.beyond else config.short
        if len(divisors) != head_dim // 2:
            raise ValueError(f"{len(divisors)} divisors for {head_dim // 2} waves")
        rates = rates / torch.tensor(divisors)
    return rates, config.gain or _gain(config)


def _gain(config: RotaryConfig) -> float:
    if config.stretch == "yarn" and config.factor > 1:
        return 0.1 * log(config.factor) + 1  # Peng et al. (2023), equation 22
    if config.stretch == "longrope" and config.factor > 1:
        return sqrt(1 + log(config.factor) / log(config.original))  # Ding et al. (2024)
    return 1.0


def _llama3(rates: Tensor, config: RotaryConfig) -> Tensor:
    """Slow waves are stretched, fast ones kept, those between mixed (Llama Team, 2024)."""
    turns = config.original * rates / (2 * pi)
    mix = ((turns - config.low) / (config.high - config.low)).clamp(0, 1)
    return (1 - mix) * rates / config.factor + mix * rates


def _yarn(rates: Tensor, config: RotaryConfig, head_dim: int) -> Tensor:
    """The same, the mix linear in the number of the wave (Peng et al., 2023, section 3.2)."""

    def wave(turns: float) -> float:
        place = config.original / (turns * 2 * pi)
        return head_dim * log(place) / (2 * log(config.base))

    first = max(int(wave(config.high) // 1), 0)
    last = min(-int(-wave(config.low) // 1), head_dim - 1)
    ramp = (torch.arange(head_dim // 2, dtype=torch.float32) - first) / max(last - first, 0.001)
    mix = 1 - ramp.clamp(0, 1)
    return (1 - mix) * rates / config.factor + mix * rates
