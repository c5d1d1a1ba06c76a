"""How the next token is chosen: greedily or drawn, after filters in a fixed order.

Constraint, bias, repetition, repeated n-grams, temperature, top-k, top-p, min-p, the constraint
again; then the largest, or a draw that depends on the seed and the step alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.foundation.errors import InvalidValue
from diptych.foundation.randomness import mix

_NEVER = float("-inf")


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What may be said of how words are chosen.

    `most` and `least` tokens of an answer. `temperature` 0 takes the likeliest; above it tokens are
    drawn, from the `top_k` likeliest (0: all), from the likeliest that together have `top_p`, from
    those with at least `min_p` of the likeliest's probability. `repetition` above 1 makes tokens
    that were said less likely (Keskar et al., 2019); `no_repeat` n: no n tokens twice; `loops` n:
    an answer whose end is one piece n times over is ended, 0 never. `bias` is added to the logits
    of tokens. `stop`: texts that end an answer and are not part of it. `beams` above 1 searches,
    with the sum of log-probabilities over length ** `length_penalty` (Wu et al., 2016).
    `alternatives`: so many of the likeliest tokens are told at each step.
    Raises InvalidValue.
    """

    most: int = 64
    least: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition: float = 1.0
    no_repeat: int = 0
    loops: int = 0
    bias: tuple[tuple[int, float], ...] = ()
    stop: tuple[str, ...] = ()
    beams: int = 1
    length_penalty: float = 1.0
    alternatives: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                top = "up" if high == float("inf") else f"to {high:g}"
                raise InvalidValue(f"{name}={value} is outside {low:g} {top}.")
        if self.least > self.most:
            raise InvalidValue(f"least={self.least} is more than most={self.most}.")
        if "" in self.stop:
            raise InvalidValue("An empty stop text ends every answer.", do="Leave it out.")
        if self.beams > 1 and (self.temperature or self.stop):
            raise InvalidValue(
                "Beams take the likeliest and know no stop texts.",
                do="Leave out temperature and stop, or say beams=1.",
            )

    @property
    def plain(self) -> bool:
        """Whether the likeliest token is taken as it is."""
        changed = self.temperature or self.bias or self.no_repeat or self.least
        return not changed and self.repetition == 1


_RANGES: dict[str, tuple[float, float]] = {
    "most": (1, float("inf")), "least": (0, float("inf")), "temperature": (0, 100),
    "top_k": (0, float("inf")), "top_p": (1e-9, 1), "min_p": (0, 1),
    "repetition": (0.01, 100), "no_repeat": (0, float("inf")), "loops": (0, float("inf")),
    "beams": (1, 64), "length_penalty": (-10, 10), "alternatives": (0, 100),
}  # fmt: skip


def filtered(
    logits: Tensor,
    decoding: Decoding,
    said: Sequence[int],
    *,
    allowed: Tensor | None = None,
    ends: Sequence[int] = (),
) -> Tensor:
    """logits [V] of the next token -> float32 or finer [V], minus infinity where it may not be.

    `said`: tokens of the answer so far; `allowed` [V] bool, of a constraint; `ends`: tokens that
    end an answer, not before `least`. Raises InvalidValue where nothing is left.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).clone()
    if allowed is not None:
        logits.masked_fill_(~allowed, _NEVER)
    for token, amount in decoding.bias:
        if not 0 <= token < len(logits):
            raise InvalidValue(f"bias names token {token}; the model has {len(logits)}.")
        logits[token] += amount
    if decoding.repetition != 1 and said:
        at = torch.tensor(sorted(set(said)), device=logits.device)
        seen = logits[at]
        weaker = torch.where(seen > 0, seen / decoding.repetition, seen * decoding.repetition)
        logits[at] = weaker
    if decoding.no_repeat:
        logits[_repeating(said, decoding.no_repeat)] = _NEVER
    if len(said) < decoding.least:
        logits[list(ends)] = _NEVER
    if not torch.isfinite(logits).any():
        raise InvalidValue(
            f"After {len(said)} tokens no token is left that may follow.",
            do="Loosen the constraint, no_repeat or bias.",
        )
    return narrowed(logits, decoding) if decoding.temperature else logits


def narrowed(logits: Tensor, decoding: Decoding) -> Tensor:
    """Temperature, top-k, top-p (Holtzman et al., 2020) and min-p (Nguyen et al., 2025), [V]."""
    logits = logits / decoding.temperature
    if 0 < decoding.top_k < len(logits):
        least = logits.topk(decoding.top_k).values[-1]
        logits = logits.masked_fill(logits < least, _NEVER)
    if decoding.top_p < 1:
        ordered, order = logits.sort(descending=True, stable=True)
        shares = ordered.softmax(0)
        # A token stays while those before it have less than top_p.
        out = shares.cumsum(0) - shares >= decoding.top_p
        logits = logits.masked_fill(torch.zeros_like(out).scatter_(0, order, out), _NEVER)
    if decoding.min_p:
        shares = logits.softmax(0)
        logits = logits.masked_fill(shares < decoding.min_p * shares.max(), _NEVER)
    return logits


def choose(logits: Tensor, decoding: Decoding, step: int) -> int:
    """filtered logits [V] -> the token; `step` counts the answer's tokens."""
    if not decoding.temperature:
        return int(logits.argmax())
    draw = mix(decoding.seed, step) / 2**64
    sums = logits.double().softmax(0).cumsum(0)
    place = int(torch.searchsorted(sums, sums.new_tensor(draw) * sums[-1], right=True))
    # Rounding may point behind the last token that has a share.
    return min(place, int(torch.isfinite(logits).nonzero()[-1]))


def loops(said: Sequence[int], times: int, longest: int = 64) -> bool:
    """Whether the end is one piece of up to `longest` tokens, `times` over."""
    for length in range(1, min(longest, len(said) // times) + 1):
        piece = said[-length:]
        if all(said[-(k + 1) * length : -k * length] == piece for k in range(1, times)):
            return True
    return False


def _repeating(said: Sequence[int], count: int) -> list[int]:
    """Tokens that would end a run of `count` that was said before."""
    if len(said) < count:
        return []
    tail = list(said[len(said) - count + 1 :])
    starts = range(len(said) - count + 1)
    return [said[i + count - 1] for i in starts if list(said[i : i + count - 1]) == tail]
