"""Beginnings of texts that were read before, kept up to a limit of bytes, the oldest given up."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock

from diptych.decoding.slots import Prefix


@dataclass
class PrefixStore:
    """By keys that name all that a beginning depends on: weights, preprocessing, the pictures'
    pixels and the tokens. Threads may share it. `limit` in bytes; 0 keeps nothing."""

    limit: int = 512 * 2**20
    hits: int = 0
    misses: int = 0
    _kept: OrderedDict[bytes, Prefix] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    @property
    def bytes(self) -> int:
        """What is kept."""
        return sum(prefix.bytes for prefix in self._kept.values())

    def get(self, key: bytes) -> Prefix | None:
        """A beginning, which is then the youngest."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                self.misses += 1
                return None
            self.hits += 1
            self._kept.move_to_end(key)
            return found

    def put(self, key: bytes, prefix: Prefix) -> None:
        """Keep a beginning, if it is not larger than the limit."""
        with self._lock:
            if prefix.bytes > self.limit:
                return
            self._kept[key] = prefix
            self._kept.move_to_end(key)
            total = self.bytes
            while total > self.limit:
                total -= self._kept.popitem(last=False)[1].bytes
