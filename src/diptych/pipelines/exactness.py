"""How many rows a call for words may have so that each keeps the bits it has alone.

Matrix kernels choose their way by the number of rows, and attention by the length of the longest
text. So in exact calls a text looks at its own rows only, weights always meet as many rows as one
of these sizes, and the sizes are tried, not guessed: no list holds on every machine.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from diptych.decoding.slots import KVSlots
from diptych.pipelines.reading import Reading

_SOLO = 4  # rows of a call for one text: with fewer, kernels differ most
_TRIED: WeakKeyDictionary[Reading, dict[tuple[int, int], tuple[int, ...]]] = WeakKeyDictionary()


@torch.inference_mode()
def fitting_rows(reading: Reading, most: int) -> tuple[int, ...]:
    """Sizes of calls, for up to `most` texts, in which a row has the bits of a call for it alone,
    the smallest first; tried once for a model and a number of threads."""
    tried = _TRIED.setdefault(reading, {})
    key = (most, torch.get_num_threads())
    if key not in tried:
        tried[key] = _fitting(reading, most)
    return tried[key]


def _fitting(reading: Reading, most: int) -> tuple[int, ...]:
    sizes = (_SOLO, *range(_SOLO + 2, most + 2, 2))
    count = max(sizes)
    rows = reading.embed(torch.arange(count, device=reading.device))
    kept = KVSlots(reading.kv, count, dtype=reading.dtype, device=reading.device)
    kept.room(7 * count, count)
    draw = torch.Generator().manual_seed(0)
    for drawn in (kept.keys, kept.values):
        drawn.copy_(torch.randn(drawn.shape, generator=draw))
    kept.lengths = [7 * i for i in range(count)]

    def asked(first: int, last: int, calls: int) -> Tensor:
        places = torch.tensor(kept.lengths[first:last], device=reading.device)
        states = reading.step(rows[first:last], places, kept.view(first, last, 1), calls)
        return reading.logits(states)[: last - first]

    alone = torch.cat([asked(i, i + 1, _SOLO) for i in range(count)])
    fit = [_SOLO]
    for size in sizes[1:]:
        if torch.equal(asked(0, size, size), alone[:size]):
            fit.append(size)
    return tuple(fit)
