"""The account of a file against a network: every tensor is applied, known to be ignored, or an
error that names it. It is made of names and shapes, before any tensor is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from diptych.checkpoints.header import Header
from diptych.checkpoints.rules import SQUEEZE, Take, nearest, shape_of
from diptych.foundation.errors import Unreadable

_SHOWN = 5
# For so many names of a kind the nearest is looked up: a file of another family has thousands.
_LOOKED_UP = 20


@dataclass(frozen=True)
class Problem:
    """`kind` is `unused`, `missing` or `misshaped`; `said` tells all."""

    kind: str
    name: str
    said: str


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of a component's file.

    `applied` of `total` tensors of the network are filled. `ignored`: tensors of the file that are
    known to say nothing. `assumed`: what no file says and how it was taken. `allowed`: problems
    that the user accepted.
    """

    component: str
    family: str
    layout: str
    parameters: int
    dtypes: tuple[str, ...]
    applied: int
    total: int
    ignored: tuple[str, ...] = ()
    assumed: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    allowed: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises Unreadable naming what is missing, unused or misshaped, and the nearest names."""
        wrong = [problem for problem in self.problems if problem.name not in self.allowed]
        if not wrong:
            return
        more = f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        listed = "; ".join(problem.said for problem in wrong[:_SHOWN])
        raise Unreadable(
            f"The {self.component} ({self.family}, {self.layout}) does not fit: {listed}{more}.",
            do="Is it another family, or a file cut short? allow= takes names without a place.",
        )


def account(
    plan: Sequence[Take],
    shapes: Mapping[str, tuple[int, ...]],
    header: Header,
    *,
    ignorable: Sequence[str] = (),
) -> tuple[list[Problem], list[str]]:
    """Problems, and tensors to be ignored, whose names match a pattern of `ignorable`.

    `shapes`: of our tensors; `header`: what the file holds for this component.
    """
    # What several of ours are part of is judged once.
    wanted_names = {name: take for take in plan for name in (take.theirs, *take.also)}
    missing = [name for name in wanted_names if name not in header]
    left = [name for name in header if name not in wanted_names]
    problems = named("missing", missing, "is missing", left)
    for name, take in wanted_names.items():
        found = header.get(name)
        if found is None:
            continue
        wanted, shape = shape_of(take, shapes[take.ours]), found.shape
        if take.rule.op == SQUEEZE and shape[2:] == (1, 1):
            shape = shape[:2]
        if shape != wanted:
            said = f"{name!r} is {list(found.shape)}, not {list(wanted)}"
            problems.append(Problem("misshaped", name, said))
    ignored, strange = sorted_out(left, ignorable)
    return problems + named("unused", strange, "has no place", missing), ignored


def sorted_out(names: Iterable[str], ignorable: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names that match a pattern of `ignorable`, and those that do not."""
    patterns = [re.compile(pattern) for pattern in ignorable]
    ignored, strange = list[str](), list[str]()
    for name in names:
        known = any(pattern.fullmatch(name) for pattern in patterns)
        (ignored if known else strange).append(name)
    return ignored, strange


def named(kind: str, names: Sequence[str], what: str, near: Sequence[str]) -> list[Problem]:
    """A problem for each name, the first with the nearest of `near`."""
    return [
        Problem(kind, name, f"{name!r} {what}{nearest(name, near) if i < _LOOKED_UP else ''}")
        for i, name in enumerate(names)
    ]
