"""The operator's models within a limit of memory: what was used longest ago goes first."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import chain
from math import prod
from pathlib import Path
from time import monotonic
from typing import Any

from torch import Tensor, nn

from diptych.checkpoints.header import header_of
from diptych.engine.engine import Engine
from diptych.foundation.errors import DiptychError, InvalidValue, NotFound, Unreadable
from diptych.pipelines.reference import folder_of
from diptych.service.worker.models import Loaded, load

WIDEST = 4  # bytes of a number of a network, at most
LEASE, LONGER = 30.0, 4.0  # seconds, and times what a load took before


@dataclass
class Pool:
    """`entries`: name -> what it does and where it is. `limit`: bytes of parameters and buffers,
    0 for none; one model that is larger is loaded alone. `loaded` stands in the order of use, the
    last used last."""

    engine: Engine
    entries: Mapping[str, tuple[str, str]]
    limit: int = 0
    marks: str = "marks"
    loaded: dict[str, Loaded] = field(default_factory=dict)
    infos: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def begin(self) -> Iterator[tuple[str, DiptychError | None]]:
        """Load each once, for what is told of it; each name, with what it failed of."""
        for name, (_, reference) in self.entries.items():
            try:
                self.sizes[name] = most_of(reference) if self.limit else 0
                self.has_room(name)
                self.load(name)
            except DiptychError as error:
                yield name, error
            else:
                yield name, None

    @property
    def held(self) -> int:
        """Bytes of all that are loaded."""
        return sum(self.sizes[name] for name in self.loaded)

    def lacks(self, name: str) -> bool:
        """Whether it is to be loaded again."""
        return name in self.infos and name not in self.loaded

    def used(self, name: str) -> None:
        """Now."""
        if name in self.loaded:
            self.loaded[name] = self.loaded.pop(name)

    def has_room(self, name: str, busy: Collection[str] = ()) -> bool:
        """Whether there is room for one that is not loaded; those used longest ago are removed for
        it, but none of `busy`, and none where that does not suffice."""
        over = self.held + self.sizes[name] - self.limit
        if not self.limit or over <= 0:
            return True
        leaves: list[str] = []
        for one in self.loaded:
            if over > 0 and one not in busy:
                leaves.append(one)
                over -= self.sizes[one]
        if over > 0 and len(leaves) < len(self.loaded):
            return False
        for one in leaves:
            self.remove(one)
        return True

    def lease(self, name: str) -> float:
        """Seconds that a load may well take."""
        return LEASE + LONGER * self.seconds.get(name, 0.0)

    def load(self, name: str) -> Loaded:
        """Raises as `models.load` does, and InvalidValue for files that are not what they were:
        bytes of pictures that were promised depend on them."""
        began = monotonic()
        does, reference = self.entries[name]
        try:
            made = load(name, does, reference, self.engine, self.marks)
        except BaseException:
            self.engine.remove(name)
            raise
        self.loaded[name] = made
        if made.fingerprint != self.infos.setdefault(name, made.info)["fingerprint"]:
            self.remove(name)
            raise InvalidValue(
                f"The files of {name!r} are not what they were.", do="Begin the server again."
            )
        self.sizes[name] = bytes_of(made.front.networks)
        self.seconds[name] = monotonic() - began
        if self.limit and self.held > self.limit:  # larger than its file told
            for one in [one for one in self.loaded if one != name]:
                if self.held > self.limit:
                    self.remove(one)
        return made

    def remove(self, name: str) -> None:
        """Forget the networks; what is told of it stays."""
        del self.loaded[name]
        self.engine.remove(name)
        gc.collect()


def most_of(reference: str) -> int:
    """Bytes that the networks of a model may have in memory, by its files. Raises NotFound."""
    place = folder_of(reference, offline=True)
    paths = [place] if place.is_file() else sorted(place.rglob("*.safetensors"))
    return sum(_numbers(path) for path in paths) * WIDEST


def bytes_of(networks: object) -> int:
    """Bytes of the parameters and buffers of all networks, each counted once."""
    tensors = {one.untyped_storage().data_ptr(): one for one in _tensors(networks)}
    return sum(one.untyped_storage().nbytes() for one in tensors.values())


def _tensors(found: object) -> Iterator[Tensor]:
    """What is inside modules, dataclasses, mappings and rows of them."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, nn.Module):
        yield from chain(found.parameters(), found.buffers())
    elif is_dataclass(found):
        for one in fields(found):
            yield from _tensors(getattr(found, one.name))
    elif isinstance(found, Mapping):
        for one in found.values():
            yield from _tensors(one)
    elif isinstance(found, tuple | list):
        for one in found:
            yield from _tensors(one)


def _numbers(path: Path) -> int:
    """How many a file holds; of another format, as many as if each had two bytes."""
    try:
        return sum(prod(tensor.shape) for tensor in header_of(path).values())
    except (Unreadable, NotFound):
        return path.stat().st_size // 2
