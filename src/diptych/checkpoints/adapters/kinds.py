"""From the tensors that a file has for one layer to the change that they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diptych.adapters.changes import (
    Change,
    Dora,
    Fixed,
    Full,
    Hadamard,
    Kronecker,
    LowRank,
    Value,
    scale_of,
)
from diptych.checkpoints.adapters.endings import (
    ALPHA,
    BIAS,
    DIFF,
    DORA_SCALE,
    DOWN,
    MAGNITUDE,
    MID,
    UP,
    UP_BIAS,
    VALUE,
)
from diptych.foundation.errors import InvalidValue

Parts = Mapping[str, Tensor]


class Said(NamedTuple):
    """What stands beside the tensors: `alpha`, None for the rank's; `stabilized`, see `LowRank`;
    `asked`, see `Kronecker`."""

    alpha: float | None = None
    stabilized: bool = False
    asked: int = 0


def _low_rank(parts: Parts, said: Said) -> Fixed:
    return LowRank(parts[UP], parts[DOWN], parts.get(MID), said.alpha, said.stabilized)


def _hadamard(parts: Parts, said: Said) -> Fixed:
    first, second = (parts["w1_a"], parts["w1_b"]), (parts["w2_a"], parts["w2_b"])
    cores = (parts["t1"], parts["t2"]) if "t1" in parts else None
    return Hadamard(first, second, cores, said.alpha)


def _kronecker(parts: Parts, said: Said) -> Fixed:
    sides: list[tuple[Tensor, ...]] = []
    for side, core in (("kw1", ""), ("kw2", "kt2")):
        names = [side] if side in parts else [f"{side}_a", f"{side}_b", core]
        sides.append(tuple(parts[name] for name in names if name in parts))
    return Kronecker(sides[0], sides[1], said.alpha, said.asked)


@dataclass(frozen=True)
class Kind:
    """`needs`: of each group one, all of whose parts must be there."""

    name: str
    needs: tuple[tuple[tuple[str, ...], ...], ...]
    may: tuple[str, ...]
    build: Callable[[Parts, Said], Fixed]


def _all(*parts: str) -> tuple[tuple[str, ...], ...]:
    return (parts,)


_DORA = (MAGNITUDE, DORA_SCALE)
KINDS = (
    Kind("LoRA", (_all(DOWN, UP),), (MID, ALPHA, UP_BIAS, *_DORA), _low_rank),
    Kind("LoHa", (_all("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2"),), (ALPHA, *_DORA), _hadamard),
    Kind("LoHa", (_all("w1_a", "w1_b", "w2_a", "w2_b"),), (ALPHA, *_DORA), _hadamard),
    Kind(
        "LoKr",
        ((("kw1",), ("kw1_a", "kw1_b")), (("kw2",), ("kw2_a", "kw2_b", "kt2"), ("kw2_a", "kw2_b"))),
        (ALPHA, *_DORA),
        _kronecker,
    ),
    Kind("full", (_all(DIFF),), _DORA, lambda parts, said: Full(parts[DIFF])),
)


class Judged(NamedTuple):
    """The kind of a target, None for a bias alone; parts that it lacks, parts that it has no use
    for."""

    kind: Kind | None
    missing: tuple[str, ...]
    unused: tuple[str, ...]


def judged(parts: Mapping[str, object]) -> Judged:
    """Which kind the parts of a target are; of several the one that lacks least."""
    own = set(parts) - {BIAS}
    if own <= {VALUE}:
        return Judged(None, (), ())
    best = Judged(None, (), tuple(sorted(own)))
    least: tuple[int, int] | None = None
    for kind in KINDS:
        groups = [min(group, key=lambda way: (len(set(way) - own), len(way) * -1))
                  for group in kind.needs]  # fmt: skip
        needed = {part for way in groups for part in way}
        if not needed & own:
            continue
        missing, unused = needed - own, own - needed - set(kind.may)
        if least is None or (len(missing), len(unused)) < least:
            least = len(missing), len(unused)
            best = Judged(kind, tuple(sorted(missing)), tuple(sorted(unused)))
    return best


def changes(kind: Kind | None, parts: Parts, said: Said) -> dict[str, Change]:
    """What happens to `weight` and to `bias`; all needed parts are there."""
    found: dict[str, Change] = {}
    if kind is not None:
        change = kind.build(parts, said)
        scale = change.scale if isinstance(change, LowRank) else 1.0
        found["weight"] = _decomposed(change, parts)
        if UP_BIAS in parts:
            found["bias"] = Full(parts[UP_BIAS], scale)
    elif VALUE in parts:
        found["weight"] = Value(parts[VALUE])
    if BIAS in parts:
        found["bias"] = Full(parts[BIAS])
    return found


def _decomposed(change: Fixed, parts: Parts) -> Change:
    """With the magnitudes of DoRA, if there are any. PEFT's are of rows always, and lie along the
    second axis for convolutions; LyCORIS's are of the axis along which they lie."""
    if MAGNITUDE in parts:
        return Dora(change, parts[MAGNITUDE])
    if DORA_SCALE in parts:
        magnitude = parts[DORA_SCALE]
        rows = magnitude.ndim == 1 or magnitude.shape[0] == change.shape[0]
        return Dora(change, magnitude, 0 if rows else 1)
    return change


def parts_of(change: Change) -> dict[str, Tensor]:
    """The tensors of a weight's change, by the parts that files name: `changes` undone.

    Raises InvalidValue for what is no single change of a file.
    """
    if isinstance(change, Dora):
        part = DORA_SCALE if change.axis or change.magnitude.ndim > 1 else MAGNITUDE
        return {**parts_of(change.change), part: change.magnitude}
    if isinstance(change, Value):
        return {VALUE: change.value}
    if isinstance(change, Full) and change.scale == 1:
        return {DIFF: change.diff}
    parts: dict[str, Tensor] = {}
    alpha: float | None
    if isinstance(change, LowRank):
        parts |= {UP: change.up, DOWN: change.down}
        parts |= {} if change.mid is None else {MID: change.mid}
        # Where files have no word for it, the root of the rank is part of alpha.
        alpha = change.scale * change.rank if change.stabilized else change.alpha
    elif isinstance(change, Hadamard):
        names = ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")
        tensors = (*change.first, *change.second, *(change.cores or ()))
        parts |= zip(names, tensors, strict=False)
        alpha = change.alpha
    elif isinstance(change, Kronecker):
        alpha = change.alpha
        for name, side, core in (("kw1", change.left, ""), ("kw2", change.right, "kt2")):
            parts |= zip([name] if len(side) == 1 else [f"{name}_a", f"{name}_b", core], side,
                         strict=False)  # fmt: skip
        if change.asked:
            scale = scale_of(change.alpha, change.asked)
            alpha = scale * change.rank if change.rank else None
            # Whole factors have no alpha in such files.
            parts |= {} if change.rank else {"kw1": change.left[0] * scale}
    else:
        raise InvalidValue(f"A {type(change).__name__} has no form in a file.")
    if alpha is not None:
        parts[ALPHA] = torch.tensor(alpha, dtype=next(iter(parts.values())).dtype)
    return parts
