"""Keys and values of many texts in slots: no padding, only lengths.

A call of a network writes the new rows of some slots behind what is there, and looks at each
slot's rows up to its own length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_GROW = 256  # places by which slots grow


@dataclass(frozen=True, kw_only=True)
class KVShape:
    """What a decoder keeps of a place: `groups` heads of `head_dim` in each of `depth` layers."""

    depth: int
    groups: int
    head_dim: int


@dataclass(frozen=True)
class Prefix:
    """Keys and values of a text's beginning, [2, G, P, D] of each layer, and how far its places
    run (`following`: that of the next token)."""

    layers: tuple[Tensor, ...]
    following: int

    @property
    def length(self) -> int:
        """Rows, P."""
        return self.layers[0].shape[2]

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return sum(layer.nbytes for layer in self.layers)


class KVView:
    """What one call of a decoder writes to and looks at: [B, 2, G, S, D] of each layer.

    `starts` [B]: rows that are there. The `count` new rows of text b come behind `starts[b]`, of
    which the first `news[b]` are real; what pads is written over by the next call. `causal`: a row
    sees the rows before it; else all new rows see one another. `shared`: a prefix that all have
    before their own rows, kept once.
    """

    def __init__(
        self,
        layers: Sequence[Tensor],
        starts: Sequence[int],
        count: int,
        *,
        causal: bool = True,
        shared: Prefix | None = None,
    ):
        self.layers, self.starts, self.count = layers, tuple(starts), count
        self.causal, self.shared = causal, shared
        self.device = layers[0].device
        self.span = max(starts) + count
        self._even = len(set(starts)) == 1
        self._seen: dict[int, Tensor | None] = {}
        if not self._even:
            first = torch.tensor(self.starts, device=self.device)
            self._places = first[:, None] + torch.arange(count, device=self.device)
            self._texts = torch.arange(len(starts), device=self.device)[:, None]

    def write(self, layer: int, new: Tensor) -> Tensor:
        """new [B, N, 2, G, D] behind what is there -> all of it, [B, 2, G, S, D]"""
        kept = self.layers[layer]
        if self._even:
            start = self.starts[0]
            kept[:, :, :, start : start + self.count] = new.permute(0, 2, 3, 1, 4)
        else:
            kept[self._texts, :, :, self._places] = new
        return kept[:, :, :, : self.span]

    def seen(self, window: int = 0) -> Tensor | None:
        """Which rows, those of the prefix first, a new row may look at, [B or 1, 1, N, P + S]
        (None: all); `window`: how far back, 0 for all the way."""
        if window not in self._seen:
            self._seen[window] = self._mask(window)
        return self._seen[window]

    def _mask(self, window: int) -> Tensor | None:
        before = self.shared.length if self.shared is not None else 0
        nearby = not window or before + self.span <= window
        if self._even and nearby and (self.count == 1 or not self.causal):
            return None
        keys = torch.arange(before + self.span, device=self.device)
        starts = self.starts[:1] if self._even else self.starts
        first = before + torch.tensor(starts, device=self.device)[:, None, None]
        mine = first + torch.arange(self.count, device=self.device)[None, :, None]
        last = mine if self.causal else first + self.count - 1
        mask = keys <= last
        if window:
            mask = mask & (mine - keys < window)
        return mask[:, None]


class KVSlots:
    """Slots that grow as texts do. What is not in use holds nothing that is ever looked at."""

    def __init__(
        self,
        shape: KVShape,
        slots: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        self.shape, self.count = shape, slots
        size = (slots, 2, shape.groups, _GROW, shape.head_dim)
        self.layers = [torch.zeros(size, dtype=dtype, device=device) for _ in range(shape.depth)]
        self.lengths = [0] * slots

    @property
    def bytes(self) -> int:
        """What they take in memory."""
        return sum(layer.nbytes for layer in self.layers)

    def view(self, first: int, last: int, count: int, *, causal: bool = True) -> KVView:
        """For `count` new rows of the slots `first` up to `last`."""
        starts = self.lengths[first:last]
        self._room(max(starts) + count)
        layers = [layer[first:last] for layer in self.layers]
        return KVView(layers, starts, count, causal=causal)

    def wrote(self, slot: int, count: int) -> None:
        """That so many of the rows written last are real."""
        self.lengths[slot] += count

    def put(self, slot: int, prefix: Prefix) -> None:
        """A text's beginning into a slot."""
        self._room(prefix.length)
        for layer, kept in zip(self.layers, prefix.layers, strict=True):
            layer[slot, :, :, : prefix.length] = kept
        self.lengths[slot] = prefix.length

    def taken(self, slot: int, following: int) -> Prefix:
        """A copy of what is in a slot."""
        length = self.lengths[slot]
        layers = tuple(layer[slot, :, :, :length].clone() for layer in self.layers)
        return Prefix(layers, following)

    def move(self, source: int, target: int) -> None:
        """A text into another slot; its own is then free."""
        length = self.lengths[source]
        for layer in self.layers:
            layer[target, :, :, :length] = layer[source, :, :, :length]
        self.lengths[target], self.lengths[source] = length, 0

    def cut(self, slot: int, length: int) -> None:
        """Forget a text's end."""
        self.lengths[slot] = min(length, self.lengths[slot])

    def free(self, slot: int) -> None:
        """Forget a text."""
        self.lengths[slot] = 0

    def _room(self, places: int) -> None:
        have = self.layers[0].shape[3]
        if places <= have:
            return
        more = -(-max(places, have + have // 2) // _GROW) * _GROW
        for number, layer in enumerate(self.layers):
            wider = layer.new_zeros((*layer.shape[:3], more, layer.shape[4]))
            wider[:, :, :, :have] = layer
            self.layers[number] = wider
