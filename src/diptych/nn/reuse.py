"""What a network has computed in one step, used again in a later one: approximations, each asked
for by name. What is kept of a row is given with the row, and given back: no network hides it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diptych.foundation.errors import InvalidValue


@dataclass(frozen=True)
class DeepCache:
    """Of a U-Net only the last `layers` of the way up, and the states they join, are computed
    anew, and all of it every so many evaluations (Ma et al., 2023, DeepCache, section 3.2). Raises
    InvalidValue."""

    every: int = 3
    layers: int = 2

    def __post_init__(self) -> None:
        if self.every < 2 or self.layers < 1:
            raise InvalidValue(
                f"DeepCache every {self.every} with {self.layers} layers keeps nothing.",
                do="Choose every 2 or more, and 1 layer or more.",
            )

    def __str__(self) -> str:
        return f"deepcache every {self.every}, {self.layers} layers"


class Deep(NamedTuple):
    """Of one row: what comes from below, [1, C, H, W], and for how many evaluations it has served
    already."""

    features: Tensor
    age: int


@dataclass(frozen=True)
class FirstBlock:
    """Of a transformer the first block alone is computed, and what the others added last is added
    again, as long as what the first adds has moved by less than `threshold`, relative to what it
    added when the others were last asked (a relative of TeaCache, Liu et al., 2024). Raises
    InvalidValue."""

    threshold: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise InvalidValue(
                f"A threshold of {self.threshold} is not offered.", do="Choose 0 to 1, as 0.1."
            )

    def __str__(self) -> str:
        return f"first-block {self.threshold:g}"


Approximation = DeepCache | FirstBlock


class Rest(NamedTuple):
    """Of one row, when all blocks were last asked: what the `first` added, and what the `others`
    did, [1, N, D]."""

    first: Tensor
    others: Tensor


@dataclass
class FirstBlocks:
    """One call of a network: the threshold, and what is `kept` of each row, which is replaced."""

    threshold: float
    kept: list[Rest | None]

    def ended(
        self, before: Tensor, h: Tensor, rest: Callable[..., Tensor], *told: Tensor
    ) -> Tensor:
        """Tokens `before` and after the first block [B, N, D] -> after all [B, N, D]. `rest`: the
        other blocks, of `h` and what is `told` of each row [B, ...]; every row decides for
        itself."""
        first = h - before
        asked = [i for i, kept in enumerate(self.kept) if self._moved(first[i], kept)]
        if len(asked) == len(h):
            out = said = rest(h, *told)
        else:
            out = torch.empty_like(h)
            said = rest(h[asked], *(one[asked] for one in told)) if asked else h[:0]
        for i, kept in enumerate(self.kept):
            if i in asked:
                row = said[asked.index(i)][None]
                self.kept[i] = Rest(first[i][None], row - h[i])
                out[i] = row[0]
            elif kept is not None:
                out[i] = h[i] + kept.others[0]
        return out

    def _moved(self, first: Tensor, kept: Rest | None) -> bool:
        """Whether the others are to be asked."""
        if kept is None:
            return True
        apart = (first - kept.first[0]).abs().mean() / kept.first.abs().mean()
        return not float(apart) < self.threshold
