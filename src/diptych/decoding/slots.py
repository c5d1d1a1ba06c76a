"""Keys and values of many texts in slots: no padding, only lengths.

A call of a network writes the new rows of some slots behind what is there, and looks at each
slot's rows up to its own length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_GROW = 256  # places by which slots grow
_KEPT = 64 * 2**20  # bytes that are not given back


@dataclass(frozen=True, kw_only=True)
class KVShape:
    """What a decoder keeps of a place: `groups` heads of `head_dim` in each of `depth` layers."""

    depth: int
    groups: int
    head_dim: int


@dataclass(frozen=True)
class Prefix:
    """Keys and values of a text's beginning, [L, G, P, E] each, and `following`, the place of the
    token after it."""

    keys: Tensor
    values: Tensor
    following: int

    @property
    def length(self) -> int:
        """Rows, P."""
        return self.keys.shape[2]

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return self.keys.nbytes + self.values.nbytes


class KVView:
    """What one call of a decoder writes to and looks at: keys and values [L, B, G, S, E].

    `starts` [B]: rows that are there. The `count` new rows of text b come behind `starts[b]`; what
    of them pads is written over by the next call. `causal`: a row sees the rows before it; else all
    new rows see one another. `shared`: a prefix that all have before their own rows, kept once.
    """

    def __init__(
        self,
        keys: Tensor,
        values: Tensor,
        starts: Sequence[int],
        count: int,
        *,
        causal: bool = True,
        shared: Prefix | None = None,
    ):
        self.keys, self.values, self.starts, self.count = keys, values, tuple(starts), count
        self.causal, self.shared = causal, shared
        self.span = max(starts) + count
        self.even = len(set(starts)) == 1
        self._seen: dict[int, Tensor | None] = {}

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """keys and values [B, N, G, E] behind what is there -> all of it, [B, G, S, E] each"""
        for kept, new in ((self.keys[layer], keys), (self.values[layer], values)):
            if self.even:
                start = self.starts[0]
                kept[:, :, start : start + self.count] = new.transpose(1, 2)
            else:
                texts, places = self._where
                kept[texts, :, places] = new
        return self.keys[layer, :, :, : self.span], self.values[layer, :, :, : self.span]

    def each(self) -> list[KVView]:
        """The texts by themselves."""
        return [
            KVView(
                self.keys[:, i : i + 1], self.values[:, i : i + 1], [start], self.count,
                causal=self.causal, shared=self.shared,
            )
            for i, start in enumerate(self.starts)
        ]  # fmt: skip

    @cached_property
    def _where(self) -> tuple[Tensor, Tensor]:
        device = self.keys.device
        first = torch.tensor(self.starts, device=device)[:, None]
        places = first + torch.arange(self.count, device=device)
        return torch.arange(len(self.starts), device=device)[:, None], places

    def seen(self, window: int = 0) -> Tensor | None:
        """Which rows, those of the prefix first, a new row may look at, [B or 1, 1, N, P + S]
        (None: all); `window`: how far back, 0 for all the way."""
        if window not in self._seen:
            self._seen[window] = self._mask(window)
        return self._seen[window]

    def _mask(self, window: int) -> Tensor | None:
        before, device = self.shared.length if self.shared is not None else 0, self.keys.device
        nearby = not window or before + self.span <= window
        if self.even and nearby and (self.count == 1 or not self.causal):
            return None
        keys = torch.arange(before + self.span, device=device)
        starts = self.starts[:1] if self.even else self.starts
        first = before + torch.tensor(starts, device=device)[:, None, None]
        mine = first + torch.arange(self.count, device=device)[None, :, None]
        last = mine if self.causal else first + self.count - 1
        mask = keys <= last
        if window:
            mask = mask & (mine - keys < window)
        return mask[:, None]


class KVSlots:
    """Up to so many slots, which grow in number and length as texts do. What is not in use holds
    nothing that is ever looked at."""

    def __init__(
        self,
        shape: KVShape,
        slots: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        self.shape, self.count = shape, slots
        size = (shape.depth, 1, shape.groups, _GROW, shape.head_dim)
        # Zeros: what is masked must be a number.
        self.keys = torch.zeros(size, dtype=dtype, device=device)
        self.values = torch.zeros(size, dtype=dtype, device=device)
        self.lengths = [0] * slots

    @property
    def bytes(self) -> int:
        """What they take in memory."""
        return self.keys.nbytes + self.values.nbytes

    def view(self, first: int, last: int, count: int, *, causal: bool = True) -> KVView:
        """For `count` new rows of the slots `first` up to `last`."""
        starts = self.lengths[first:last]
        self.room(max(starts) + count, last)
        keys, values = self.keys[:, first:last], self.values[:, first:last]
        return KVView(keys, values, starts, count, causal=causal)

    def wrote(self, slot: int, count: int) -> None:
        """That so many of the rows written last are real."""
        self.lengths[slot] += count

    def put(self, slot: int, prefix: Prefix) -> None:
        """A text's beginning into a slot."""
        self.room(prefix.length, slot + 1)
        self.keys[:, slot, :, : prefix.length] = prefix.keys
        self.values[:, slot, :, : prefix.length] = prefix.values
        self.lengths[slot] = prefix.length

    def taken(self, slot: int, following: int) -> Prefix:
        """A copy of what is in a slot."""
        self.room(0, slot + 1)
        rows = slice(0, self.lengths[slot])
        keys, values = self.keys[:, slot, :, rows], self.values[:, slot, :, rows]
        return Prefix(keys.clone(), values.clone(), following)

    def move(self, source: int, target: int) -> None:
        """A text into another slot; its own is then free."""
        self.room(self.lengths[source], max(source, target) + 1)
        rows = slice(0, self.lengths[source])
        for kept in (self.keys, self.values):
            kept[:, target, :, rows] = kept[:, source, :, rows]
        self.lengths[target], self.lengths[source] = self.lengths[source], 0

    def cut(self, slot: int, length: int) -> None:
        """Forget a text's end."""
        self.lengths[slot] = min(length, self.lengths[slot])

    def room(self, places: int, slots: int) -> None:
        """At least so many places in at least so many slots, with memory to spare for more."""
        have_slots, have = self.keys.shape[1], self.keys.shape[3]
        if places > have:
            places = -(-max(places, have + have // 2) // _GROW) * _GROW
        if slots > have_slots:
            slots = min(self.count, max(slots, 2 * have_slots))
        size = max(slots, have_slots), max(places, have)
        if size != (have_slots, have):
            self.keys, self.values = _larger(self.keys, *size), _larger(self.values, *size)

    def emptied(self) -> None:
        """No slot is in use: memory of long texts is given back."""
        self.lengths = [0] * self.count
        if self.bytes > _KEPT:
            self.keys, self.values = (
                kept.new_zeros((*kept.shape[:1], 1, kept.shape[2], _GROW, kept.shape[4]))
                for kept in (self.keys, self.values)
            )


def _larger(kept: Tensor, slots: int, places: int) -> Tensor:
    larger = kept.new_zeros((kept.shape[0], slots, kept.shape[2], places, kept.shape[4]))
    larger[:, : kept.shape[1], :, : kept.shape[3]] = kept
    return larger
