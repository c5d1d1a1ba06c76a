"""What text encoders said of chunks before: the same prompt with other seeds is read once.

Exact, since a chunk's states depend on its numbers and the weights alone. Weights are known by
where they lie and how often they were changed in place; with adapters of a row, which change what a
network says and no weight, nothing is kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

MOST_BYTES = 256 << 20


@dataclass(eq=False)
class EncodedStore:
    """States by encoder, numbers and weights; what was used longest ago goes first. Its tensors are
    not to be changed in place."""

    most: int = MOST_BYTES
    hits: int = 0
    _kept: OrderedDict[Hashable, tuple[Any, int]] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def find(self, key: Hashable) -> Any | None:
        """What was kept, or None."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        self.hits += 1
        return found[0]

    def keep(self, key: Hashable, states: Any) -> None:
        """Keep states, unless they are more than all that may be kept."""
        size = sum({one.data_ptr(): one.nbytes for one in tensors_of(states)}.values())
        if size > self.most or key in self._kept:
            return
        self._kept[key] = states, size
        self._bytes += size
        while self._bytes > self.most:
            _, (_, gone) = self._kept.popitem(last=False)
            self._bytes -= gone


def tensors_of(states: Any) -> Iterator[Tensor]:
    """A tensor, or those in rows of rows."""
    if isinstance(states, Tensor):
        yield states
    elif isinstance(states, tuple | list):
        for one in states:
            yield from tensors_of(one)


def stamp_of(network: nn.Module) -> Hashable | None:
    """Tells weights apart from what they were before; None where they keep no count of changes."""
    try:
        return tuple((one.data_ptr(), one.dtype, one._version) for one in network.parameters())
    except RuntimeError:  # made in inference mode
        return None
