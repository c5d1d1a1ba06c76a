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
SHORT = ("out of memory", "allocate memory", "bad_alloc")  # in what torch says of it


def out_of_memory(error: BaseException) -> bool:
    """Whether there was not enough memory for something, of any device."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in said for word in SHORT)
    )


@dataclass
class Batching:
    """How evaluations are put together for a network. `exact`: in such sizes only as change no bit
    of any row, which are tried when they are first needed; else up to `most`. `caps`: what fewer
    the memory has room for, by the shape of a latent."""

    networks: Painting
    exact: bool = True
    most: int = MOST
    calls: int = 0
    rows: int = 0
    tried: dict[Hashable, tuple[int, ...]] = field(default_factory=dict)
    caps: dict[tuple[int, ...], int] = field(default_factory=dict)

    @property
    def occupancy(self) -> float:
        """Evaluations a call, on the whole."""
        return self.rows / self.calls if self.calls else 0.0

    def call(
        self, x: Tensor, times: Tensor, asked: Sequence[Asked], owners: Sequence[int]
    ) -> Tensor:
        """x [E, ...], times [E] -> [E, ...]; `owners`: whose request an evaluation is.

        Where memory runs out, the cap of the shape is halved and the error raised: what was asked
        has left its traces in `kept`, so that the step is to be done again by who began it.
        """
        out = torch.empty_like(x)
        for size, places in self._classes(asked, owners).items():
            at = 0
            while at < len(places):
                left = len(places) - at
                count = self._count(x, times, asked, places[at:], size, left)
                part = places[at : at + count]
                try:
                    said = self.networks.ask(x[part], times[part], [asked[i] for i in part])
                except Exception as error:
                    if out_of_memory(error):
                        self._halve(tuple(x.shape[1:]), count, size[1])
                    raise
                out[part] = said
                self.calls, self.rows, at = self.calls + 1, self.rows + count, at + count
        return out

    def cap(self, shape: tuple[int, ...]) -> int:
        """Evaluations a call, of latents of a shape."""
        return min(self.most, self.caps.get(shape, self.most))

    def _halve(self, shape: tuple[int, ...], count: int, size: int) -> None:
        """`count` were too many, of which a request has `size` at once by itself."""
        if count > max(size, 1):
            self.caps[shape] = count // 2

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
        size, cap = key[1], self.cap(tuple(x.shape[1:]))
        if not self.exact:
            return min(left, cap)
        if left == size or cap < 2 * size:
            return size
        shape = (*key, tuple(x.shape[1:]), torch.get_num_threads())
        if shape not in self.tried:
            self.tried[shape] = self._fit(x, times, [asked[i] for i in places[:size]], size)
        fit = (count for count in self.tried[shape] if count <= min(left, cap))
        return max(fit, default=size)

    def _fit(self, x: Tensor, times: Tensor, asked: Sequence[Asked], size: int) -> tuple[int, ...]:
        """Multiples of a request's own size up to `most` that change no bit of any row, as far as
        the memory goes."""
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
            try:
                said = tried(0, count)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                break
            if torch.equal(said, alone[:count]):
                fit.append(count)
        return tuple(fit)
