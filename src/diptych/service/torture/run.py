"""One torture from its seed to its verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from diptych.foundation.errors import InvalidValue
from diptych.foundation.progress import Progress, Report, silent
from diptych.service.child import Child, free_port
from diptych.service.torture.checker import Verdict, check
from diptych.service.torture.faults import Victim, plan, strike
from diptych.service.torture.load import PAINT, Load, wishes

# What a request gives alone: bodies -> SHA-256 of each file, in their order.
Alone = Callable[[Sequence[Mapping[str, Any]]], Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`faults`: how many of each kind; `refused`: answers that said there is no room or no time;
    `wrong`: answers that no fault excuses."""

    verdicts: Sequence[Verdict]
    faults: Mapping[str, int]
    refused: int = 0
    wrong: Sequence[str] = ()
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, doubled or altered."""
        return not self.wrong and not any(one.broken for one in self.verdicts)


def torture(
    data: Path, alone: Alone, *, seed: int, jobs: int, faults: int, report: Report = silent
) -> Outcome:
    """Begin a server over an empty folder, load it, hurt it, end it, and judge the folder.

    Raises InvalidValue for a folder that is not empty, or a server that does not start.
    """
    data.mkdir(parents=True, exist_ok=True)
    if any(data.iterdir()):
        raise InvalidValue(
            f"The folder {str(data)!r} is not empty.", do="Name an empty one, or leave it out."
        )
    began = time.monotonic()
    random = Random(seed)
    wanted = wishes(random, jobs)
    victim = Victim(Child(data, free_port()))
    load = Load(victim.child.port, wanted)
    try:
        victim.again()
        load.begin()
        _hurt(victim, load, random, plan(random, faults), report)
        load.end()
        victim.child.drain()
    finally:
        load.end()
        victim.child.end()
    report(Progress(jobs, jobs, "painting each alone"))
    bodies = {one.same: one.body for one in wanted if one.path == PAINT}
    solo = dict(zip(bodies, alone(list(bodies.values())), strict=True))
    verdicts = check(data, load.told, solo)
    return Outcome(
        verdicts=verdicts, faults=victim.done, refused=load.refused, wrong=load.wrong,
        seconds=time.monotonic() - began,
    )  # fmt: skip


def _hurt(victim: Victim, load: Load, random: Random, names: Sequence[str], report: Report) -> None:
    """Each fault when a share of the jobs has ended, a random moment later; then until the end."""
    jobs = len(load.wishes)
    marks = sorted(random.uniform(0.0, 0.9) * jobs for _ in names)
    waiting = list(zip(marks, names, strict=True))
    while load.busy:
        note = f"{sum(victim.done.values())} of {len(names)} faults"
        report(Progress(load.ended, jobs, note))
        if waiting and load.ended >= waiting[0][0]:
            time.sleep(random.uniform(0.0, 0.5))
            _, name = waiting.pop(0)
            report(Progress(load.ended, jobs, f"{note}, now: {name}"))
            strike(victim, name, random)
        time.sleep(0.1)
