"""What the rows of one call look at: words before them, and what stands in front of all words.

A slot of a network with cross-attention holds the keys and values of what is looked at besides in
its first rows, and those of the words behind them. How many the first are, a row's place tells:
words begin at place 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from diptych.decoding.slots import KVView
from diptych.nn.attention import attend

# [N] places of words that look and [M] of words that are seen -> what is added to scores [H, N, M]
Distances = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class _Group:
    """Texts of a call that are looked at together: `memory` rows in front, `span` rows in all, and
    what is added to the scores of words [B or 1, H or 1, N, M] (or may look; None: all do)."""

    first: int
    last: int
    memory: int
    span: int
    seen: Tensor | None


class Kept:
    """The sight of a call whose keys and values are kept. With `calls` each text looks by itself,
    and what it saw stands in so many rows."""

    def __init__(
        self,
        view: KVView,
        places: Tensor,
        *,
        crosses: bool,
        distances: Distances | None = None,
        calls: int = 0,
    ):
        self.view, self.calls = view, calls
        self.before = 0 if view.shared is None else view.shared.length
        texts = len(view.starts)
        starts = [self.before + start for start in view.starts]
        memory = [0] * texts
        if crosses:
            firsts = places[:, 0].expand(texts).tolist()
            memory = [start - first for start, first in zip(starts, firsts, strict=True)]
        alike = len(set(memory)) == 1 and (distances is None or view.even) and not calls
        parts = [(0, texts)] if alike else [(i, i + 1) for i in range(texts)]
        self.groups = [
            self._group(first, last, starts[first:last], memory[first], distances)
            for first, last in parts
        ]

    def _group(
        self, first: int, last: int, starts: list[int], memory: int, distances: Distances | None
    ) -> _Group:
        view, device = self.view, self.view.keys.device
        span = max(starts) + view.count
        seen: Tensor | None = None
        even = len(set(starts)) == 1
        if view.causal and not (even and view.count == 1):
            mine = torch.tensor(starts, device=device)[:, None, None, None]
            mine = mine + torch.arange(view.count, device=device)[:, None]
            seen = torch.arange(memory, span, device=device) <= mine
        if distances is not None:
            words = torch.arange(span - memory, device=device)
            added = distances(words[len(words) - view.count :], words)[None]
            seen = added if seen is None else added.masked_fill(~seen, float("-inf"))
        return _Group(first, last, memory, span, seen)

    def words(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
        """q, k, v [B, H, N, E] of new words, which are kept -> what they saw, the same shape."""
        texts = len(self.view.starts)
        self.view.write(layer, k[:texts].transpose(1, 2), v[:texts].transpose(1, 2))
        looked = list[Tensor]()
        for group in self.groups:
            keys, values = self._rows(layer, group, group.memory, group.span)
            asked = q[group.first : group.last]
            looked.append(attend(asked, keys, values, group.seen, scale))
        return self._padded(looked)

    def cross(self, layer: int, q: Tensor, scale: float | None) -> Tensor:
        """q [B, H, N, E] of words -> what they saw of what stands in front; nothing is zeros."""
        looked = list[Tensor]()
        for group in self.groups:
            asked = q[group.first : group.last]
            if group.memory:
                keys, values = self._rows(layer, group, 0, group.memory)
                looked.append(attend(asked, keys, values, None, scale))
            else:
                looked.append(torch.zeros_like(asked))
        return self._padded(looked)

    def _rows(self, layer: int, group: _Group, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """Rows `begin` to `end` of a group's texts, those of a shared prefix first."""
        view, before = self.view, self.before
        found = list[Tensor]()
        pairs = [(view.keys, None), (view.values, None)]
        if view.shared is not None:
            pairs = [(view.keys, view.shared.keys), (view.values, view.shared.values)]
        for kept, shared in pairs:
            own = kept[layer, group.first : group.last]
            own = own[:, :, max(0, begin - before) : max(0, end - before)]
            if shared is not None and begin < before:
                front = shared[layer, :, begin : min(end, before)]
                own = torch.cat([front.expand(len(own), -1, -1, -1), own], dim=2)
            found.append(own)
        return found[0], found[1]

    def _padded(self, looked: list[Tensor]) -> Tensor:
        made = looked[0] if len(looked) == 1 else torch.cat(looked)
        missing = max(self.calls - len(made), 0)
        return pad(made, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else made


@dataclass(frozen=True)
class Whole:
    """The sight of whole texts: `seen` of words [B or 1, H or 1, N, N]; `memory` [B, M, D], of
    which `filled` [B, 1, 1, M] may be seen (None: all)."""

    seen: Tensor | None
    memory: Tensor | None = None
    filled: Tensor | None = None

    def words(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
        """As `Kept.words`."""
        return attend(q, k, v, self.seen, scale)


Sight = Kept | Whole
