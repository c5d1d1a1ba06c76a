"""A set of changes that belong together, as a file brings them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diptych.adapters.changes import Change, moved
from diptych.foundation.errors import InvalidValue


class Place(NamedTuple):
    """A parameter of a model: `component` as `unet`, path of the module, name in it."""

    component: str
    module: str
    leaf: str = "weight"

    def __str__(self) -> str:
        return f"{self.component}.{self.module}.{self.leaf}"


@dataclass(frozen=True, eq=False)
class Adapter:
    """Its name, and what it does to each parameter. A value: threads may share it."""

    name: str
    changes: Mapping[Place, Change]

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that occur, least first."""
        return tuple(sorted({change.rank for change in self.changes.values() if change.rank}))

    def to(self, device: torch.device) -> Adapter:
        """The same on a device."""
        changes = {place: moved(change, device) for place, change in self.changes.items()}
        return replace(self, changes=changes)


Weighted = Sequence[tuple[Adapter, float]]
"""Adapters that act together, and how strongly: 1 as trained, 0 not at all."""


def changes_of(weighted: Weighted) -> dict[Place, list[tuple[Change, float]]]:
    """By place, in order."""
    found: dict[Place, list[tuple[Change, float]]] = {}
    for adapter, weight in weighted:
        for place, change in adapter.changes.items():
            found.setdefault(place, []).append((change, weight))
    return found


def changed(base: Tensor, changes: Iterable[tuple[Change, float]]) -> Tensor:
    """The weight with all changes, each of which knows of the base alone, so that their order
    does not matter; summed in float32 or finer and rounded once."""
    wide = base.detach().to(torch.promote_types(base.dtype, torch.float32))
    whole = wide
    for change, weight in changes:
        whole = whole + weight * change.added(wide)
    return whole.to(base.dtype)


def module_of(networks: Mapping[str, nn.Module], place: Place) -> nn.Module:
    """The module of a place. Raises InvalidValue where there is none."""
    try:
        module = networks[place.component].get_submodule(place.module)
    except (KeyError, AttributeError):
        module = None
    if module is None or getattr(module, place.leaf, None) is None:
        raise InvalidValue(
            f"There is no {str(place)!r} to be changed.", do="Is the adapter another model's?"
        )
    return module
