"""The account of a file against a network: every tensor is applied, known to be ignored, or an
error that names it. It is made of names and shapes, before any tensor is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from diptych.checkpoints.header import Header
from diptych.checkpoints.rules import SQUEEZE, Take, nearest, shape_of
from diptych.foundation.errors import Unreadable

_SHOWN = 5


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
            do="Is it another family, or a file cut short? allow= takes names that you accept.",
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
    problems: list[Problem] = []
    used = {take.theirs for take in plan}
    # What several of ours are part of is judged once.
    for take in {take.theirs: take for take in plan}.values():
        found = header.get(take.theirs)
        if found is None:
            near = nearest(take.theirs, header.keys() - used)
            problems.append(Problem("missing", take.theirs, f"{take.theirs!r} is missing{near}"))
            continue
        wanted, shape = shape_of(take, shapes[take.ours]), found.shape
        if take.rule.op == SQUEEZE and shape[2:] == (1, 1):
            shape = shape[:2]
        if shape != wanted:
            said = f"{take.theirs!r} is {list(found.shape)}, not {list(wanted)}"
            problems.append(Problem("misshaped", take.theirs, said))
    patterns = [re.compile(pattern) for pattern in ignorable]
    left = [name for name in header if name not in used]
    ignored = [name for name in left if any(pattern.fullmatch(name) for pattern in patterns)]
    for name in left:
        if name not in ignored:
            near = nearest(name, {p.name for p in problems if p.kind == "missing"})
            problems.append(Problem("unused", name, f"{name!r} has no place{near}"))
    return problems, ignored
