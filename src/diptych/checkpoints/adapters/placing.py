"""What a target of a file does to our parameters: tried on shapes alone, or with its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from diptych.adapters.adapter import Place
from diptych.adapters.changes import Change, Dora, Fixed, LowRank
from diptych.adapters.fused import rows_of, taken
from diptych.checkpoints.adapters.endings import ALPHA, Target
from diptych.checkpoints.adapters.kinds import Kind, changes
from diptych.checkpoints.adapters.names import Spot
from diptych.checkpoints.adapters.said import Beside
from diptych.checkpoints.rules import Take, ours_of, shape_of

# Layers that a control LoRA may make twice as wide, for a second picture beside the first.
WIDENED = {("transformer", "x_embedder")}


@dataclass(frozen=True)
class Placed:
    """A target of the file and where it leads; `kind` None for a bias or a value alone."""

    target: Target
    spot: Spot
    kind: Kind | None


def place_of(spot: Spot, take: Take, leaf: str = "") -> Place:
    module, _, own = take.ours.rpartition(".")
    return Place(spot.component, module, leaf or own)


def ours(
    one: Placed, parts: Mapping[str, Tensor], said: Beside, shapes: Mapping[Place, tuple[int, ...]]
) -> list[tuple[Place, Change]]:
    """What a target does to our parameters, as many as share its layer. Parts without memory are
    tried on weights without memory.

    Raises RuntimeError where factors do not fit each other or the weight, LookupError(what) where
    a layer lacks what is changed.
    """
    on_trial = all(part.is_meta for part in parts.values())
    beside = said.of(one.spot.component, place_of(one.spot, one.spot.takes[0]).module)
    if ALPHA in parts:
        alpha = parts[ALPHA]
        if alpha.numel() != 1:
            raise LookupError(f"has an alpha of {list(alpha.shape)}")
        beside = beside._replace(alpha=1.0 if alpha.is_meta else float(alpha))
    found: list[tuple[Place, Change]] = []
    for leaf, change in changes(one.kind, parts, beside).items():
        for take in one.spot.takes:
            place = place_of(one.spot, take, "" if leaf == "weight" else leaf)
            if place not in shapes:
                raise LookupError(f"changes a {leaf} that {place.module!r} does not have")
            shape = shapes[place]
            if (place.component, place.module) in WIDENED and isinstance(change, LowRank):
                wide = (shape[0], 2 * shape[1])
                shape = wide if change.shape == wide else shape
            found.append((place, _turned(change, take, shape, on_trial)))
    return found


def _turned(change: Change, take: Take, shape: tuple[int, ...], on_trial: bool) -> Change:
    """A change of the stored weight -> of ours."""
    stored = shape_of(take, shape)
    if on_trial:
        if not change.fits(stored):
            raise RuntimeError("another shape")
        change.added(torch.empty(stored, device="meta"))
    # Which rows are ours, by what the rule does to their numbers.
    numbers = torch.arange(stored[0])
    order = ours_of(take, numbers)
    if torch.equal(order, numbers):
        return change
    pieces = _runs(order.tolist())
    if isinstance(change, Fixed):
        change = rows_of(change, stored, pieces)
    elif isinstance(change, Dora) and change.axis == 0:
        magnitude = taken(change.magnitude.flatten(), pieces)
        change = replace(change, change=rows_of(change.change, stored, pieces), magnitude=magnitude)
    elif isinstance(change, Dora):
        raise LookupError("has DoRA over the columns of several of our layers at once")
    else:
        changed: Any = change
        change = replace(changed, value=taken(changed.value, pieces))
    return change


def _runs(order: Sequence[int]) -> list[tuple[int, int]]:
    """Numbers as runs from, to."""
    runs: list[tuple[int, int]] = []
    for number in order:
        if runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return runs
