"""Which evaluations may share a call of a network.

The kernels of a CPU choose their way, and with it their rounding, by the size of a batch: a row
of a convolution alone has other bits than in a batch of four (torch 2.13, oneDNN). So before a
network is batched it is tried: in which sizes does every row, at every place, have the bits that
it has in the call its own request would make?
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diptych.pipelines.painting import Asked, Painting

MOST = 8  # evaluations a call


@dataclass
class Batching:
    """How evaluations are put together for a network. `exact`: in such sizes only as change no bit
    of any row, which are tried when they are first needed; else up to `most`."""

    networks: Painting
    exact: bool = True
    most: int = MOST
    calls: int = 0
    rows: int = 0
    tried: dict[Hashable, tuple[int, ...]] = field(default_factory=dict)

    @property
    def occupancy(self) -> float:
        """Evaluations a call, on the whole."""
        return self.rows / self.calls if self.calls else 0.0

    def call(
        self, x: Tensor, times: Tensor, asked: Sequence[Asked], owners: Sequence[int]
    ) -> Tensor:
        """x [E, ...], times [E] -> [E, ...]; `owners`: whose request an evaluation is."""
        out = torch.empty_like(x)
        for size, places in self._classes(asked, owners).items():
            at = 0
            while at < len(places):
                left = len(places) - at
                count = self._count(x, times, asked, places[at:], size, left)
                part = places[at : at + count]
                out[part] = self.networks.ask(x[part], times[part], [asked[i] for i in part])
                self.calls, self.rows, at = self.calls + 1, self.rows + count, at + count
        return out

    def _classes(
        self, asked: Sequence[Asked], owners: Sequence[int]
    ) -> dict[tuple[Hashable, int], list[int]]:
        """Places of evaluations that may share a call, with how many of them one request asks at
        once by itself: those of a request stand side by side."""
        own: dict[tuple[int, Hashable], list[int]] = {}
        for i, (one, owner) in enumerate(zip(asked, owners, strict=True)):
            own.setdefault((owner, self.networks.key(one)), []).append(i)
        classes: dict[tuple[Hashable, int], list[int]] = {}
        for (_, key), places in own.items():
            size = len(places) if self.exact else 0
            classes.setdefault((key, size), []).extend(places)
        return classes

    def _count(
        self,
        x: Tensor,
        times: Tensor,
        asked: Sequence[Asked],
        places: Sequence[int],
        key: tuple[Hashable, int],
        left: int,
    ) -> int:
        """How many of the evaluations that are left go into the next call."""
        size = key[1]
        if not self.exact:
            return min(left, self.most)
        if left == size:
            return size
        shape = (*key, tuple(x.shape[1:]), torch.get_num_threads())
        if shape not in self.tried:
            self.tried[shape] = self._fit(x, times, [asked[i] for i in places[:size]], size)
        return max(count for count in self.tried[shape] if count <= left)

    def _fit(self, x: Tensor, times: Tensor, asked: Sequence[Asked], size: int) -> tuple[int, ...]:
        """Multiples of a request's own size up to `most` that change no bit of any row."""
        draw = torch.Generator().manual_seed(0)
        counts = list(range(2 * size, self.most + 1, size))
        rows = max(counts, default=size)
        given = torch.randn((rows, *x.shape[1:]), generator=draw).to(x)
        at = times[:1].expand(rows).clone() * torch.linspace(1, 0.3, rows).to(times)

        def tried(first: int, last: int) -> Tensor:
            # What pictures keep is copied: these are trials, of one picture several times.
            each = [asked[i % size] for i in range(first, last)]
            each = [one._replace(kept=dict(one.kept)) for one in each]
            return self.networks.ask(given[first:last], at[first:last], each)

        wanted = [tried(i, i + size) for i in range(0, rows, size)]
        alone = torch.cat(wanted)
        fit = [size]
        for count in counts:
            if torch.equal(tried(0, count), alone[:count]):
                fit.append(count)
        return tuple(fit)
