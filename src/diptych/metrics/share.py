"""The share of things that are right, with its interval."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

_Z = 1.959964  # 95 % of a normal distribution lie within


@dataclass(frozen=True)
class Value:
    """A number, its 95 % interval and how many samples it comes from."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Share:
    """`right` of `n`. Add verdicts with `update`, other shares with `merge`."""

    right: int = 0
    n: int = 0

    def update(self, verdicts: Iterable[bool]) -> Share:
        """The share with these verdicts counted too."""
        seen = [bool(verdict) for verdict in verdicts]
        return Share(self.right + sum(seen), self.n + len(seen))

    def merge(self, other: Share) -> Share:
        """Both counted together."""
        return Share(self.right + other.right, self.n + other.n)

    def value(self) -> Value:
        """The share and its score interval (Wilson, 1927). Raises ValueError when empty."""
        if not self.n:
            raise ValueError("a share of nothing has no value")
        share, z2 = self.right / self.n, _Z**2 / self.n
        middle = (share + z2 / 2) / (1 + z2)
        half = _Z / (1 + z2) * sqrt(share * (1 - share) / self.n + z2 / (4 * self.n))
        return Value(share, max(0.0, middle - half), min(1.0, middle + half), self.n)
