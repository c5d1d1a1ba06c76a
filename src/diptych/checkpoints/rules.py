"""How another layout names and shapes what our networks hold: data that works both ways.

A rule renames a prefix; what follows it stays. Of two rules that fit, the longer wins. A plan is
the rules spelled out for one network: for each of our tensors, where it lies and how it is turned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor

from diptych.foundation.errors import InvalidValue

# What is done to a stored tensor to make it ours. Each has its way back in `stored_of`.
SAME, SQUEEZE, TRANSPOSE, SWAP_HALVES = "same", "squeeze", "transpose", "swap_halves"
BATCHED, ROW, SCALAR = "batched", "row", "scalar"
COLUMNS = "columns"
# Axes of one that a stored tensor has in front, beyond ours.
_IN_FRONT = {BATCHED: 1, ROW: 2, SCALAR: -1}


@dataclass(frozen=True)
class Rule:
    """`ours` and `theirs` are prefixes of names, or whole names. `op`: how a tensor is turned:
    `squeeze` a 1x1 convolution to a matrix, `transpose`, `swap_halves` of its rows; `batched` and
    `row` take one and two axes of one off the front, `scalar` puts one there. `part` k of
    `parts`: ours is the k-th of equal shares of their rows, as q, k and v of one matrix; `shares`:
    where they are not equal, how they relate. `columns` is
    `transpose` where shares are of their columns; vectors stay as they are. `also`: further
    prefixes where the same tensor is stored once more."""

    ours: str
    theirs: str
    op: str = SAME
    part: int = 0
    parts: int = 1
    also: tuple[str, ...] = ()
    shares: tuple[int, ...] = ()

    def share(self) -> tuple[int, int, int]:
        """Which of their rows are ours, in units: from, how many, of how many."""
        shares = self.shares or (1,) * self.parts
        return sum(shares[: self.part]), shares[self.part], sum(shares)


@dataclass(frozen=True)
class Take:
    """Our tensor `ours` is the stored tensor `theirs`, turned by `rule`, and each of `also`."""

    ours: str
    theirs: str
    rule: Rule
    also: tuple[str, ...] = ()


def plan_of(rules: Sequence[Rule], names: Iterable[str], prefix: str = "") -> list[Take]:
    """For each of our names where it lies; `prefix` stands before all of theirs.

    A name that no rule fits keeps itself: the rules say what differs.
    """
    by_length = sorted(rules, key=lambda rule: -len(rule.ours))
    plan = []
    for name in names:
        rule = next((rule for rule in by_length if name.startswith(rule.ours)), Rule("", ""))
        places = [
            prefix + theirs + name.removeprefix(rule.ours) for theirs in (rule.theirs, *rule.also)
        ]
        plan.append(Take(name, places[0], rule, tuple(places[1:])))
    return plan


def shape_of(take: Take, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that a stored tensor must have for ours to have `shape`; the axis of two ones at
    the end is optional under `squeeze`."""
    if take.rule.op == TRANSPOSE:
        shape = (*shape[:-2], shape[-1], shape[-2])
    if take.rule.op in _IN_FRONT:
        return (1, 1)[: max(0, _IN_FRONT[take.rule.op])] + shape[take.rule.op == SCALAR :]
    _, mine, all_of_them = take.rule.share()
    whole = (shape[0] * all_of_them // mine, *shape[1:]) if shape else shape
    return whole[::-1] if take.rule.op == COLUMNS else whole


def ours_of(take: Take, stored: Tensor) -> Tensor:
    """A stored tensor made ours: a view of it where that is possible."""
    if take.rule.op == COLUMNS and stored.ndim == 2:
        stored = stored.T
    if take.rule.parts > 1:
        before, mine, all_of_them = take.rule.share()
        unit = len(stored) // all_of_them
        stored = stored[before * unit : (before + mine) * unit]
    if take.rule.op == SQUEEZE:
        return stored.flatten(1) if stored.ndim == 4 else stored
    if take.rule.op == TRANSPOSE:
        return stored.mT.contiguous()
    if take.rule.op == COLUMNS:
        return stored.contiguous()
    if take.rule.op == SWAP_HALVES:
        return torch.cat(stored.chunk(2)[::-1])
    return _without_front(stored, _IN_FRONT.get(take.rule.op, 0))


def _without_front(tensor: Tensor, axes: int) -> Tensor:
    """Without so many axes of one in front; with them where `axes` is negative."""
    for _ in range(abs(axes)):
        tensor = tensor[0] if axes > 0 else tensor[None]
    return tensor


def stored_of(plan: Sequence[Take], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All of our tensors as the layout stores them: `ours_of` undone. Raises InvalidValue where
    the layout has one tensor for two of ours that are not the same."""
    parts: dict[str, dict[int, Tensor]] = {}
    axes: dict[str, int] = {}
    for take in plan:
        tensor = ours[take.ours]
        if take.rule.op == SQUEEZE and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]
        elif take.rule.op == TRANSPOSE:
            tensor = tensor.mT
        elif take.rule.op == COLUMNS and tensor.ndim == 2:
            tensor = tensor.T
        elif take.rule.op == SWAP_HALVES:
            tensor = torch.cat(tensor.chunk(2)[::-1])
        else:
            tensor = _without_front(tensor, -_IN_FRONT.get(take.rule.op, 0))
        for place in (take.theirs, *take.also):
            axes[place] = -1 if take.rule.op == COLUMNS else 0
            there = parts.setdefault(place, {}).setdefault(take.rule.part, tensor)
            if there is not tensor and not torch.equal(there, tensor):
                raise InvalidValue(
                    f"{take.ours!r} and another are one tensor, {place!r}, in this layout, and "
                    "differ here.",
                    do="Write a folder.",
                )
    return {
        name: torch.cat([found[k] for k in sorted(found)], axes[name])
        if len(found) > 1
        else found[0]
        for name, found in ((name, found) for name, found in parts.items())
    }


def nearest(name: str, known: Iterable[str]) -> str:
    """`, nearest: ...` for an error, or nothing."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", nearest: {near[0]!r}" if near else ""
