"""Whose turn it is among pictures under way, and what a turn costs.

Least first: seconds left times seconds in all, over the square of the slowdown that a picture would
have if it were alone from now on. The first factor alone is the best for the mean slowdown (what is
nearly done and what is short goes first, Yang and others, 2011, "SPTP"); the second lets nobody
starve. Two of equal length come one after the other, so the first does not wait for the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

from diptych.engine.painting import Job

PAYS = 0.8  # of the seconds one by one, from which on several go together
TRIES = 3  # before a number of rows is judged; the first also tries which batches are exact


class Bucket(NamedTuple):
    """What may share a call of a network: a model, and a shape of latents [C, h, w]."""

    model: str
    shape: tuple[int, ...]


class Task(NamedTuple):
    """What a picture under way wants next: to be decoded, or `rows` evaluations of its network.
    `left` and `whole`: predicted seconds, `age`: since it came."""

    job: Job
    bucket: Bucket
    rows: int
    left: float
    whole: float
    age: float
    decodes: bool = False

    @property
    def urgency(self) -> float:
        """Less is more urgent."""
        slowdown = (self.age + self.left) / self.whole
        return self.left * self.whole / max(slowdown, 1.0) ** 2


@dataclass
class Costs:
    """Seconds of turns, by bucket and rows; 0 rows is a decoding. The least of late: what else a
    machine does now and then is no cost of ours."""

    seconds: dict[tuple[Bucket, int], float] = field(default_factory=dict)
    times: dict[tuple[Bucket, int], int] = field(default_factory=dict)

    def learn(self, bucket: Bucket, rows: int, took: float) -> None:
        """One more turn."""
        key = bucket, rows
        self.times[key] = self.times.get(key, 0) + 1
        self.seconds[key] = min(took, 1.05 * self.seconds.get(key, took))

    def of(self, bucket: Bucket, rows: int) -> float:
        """Predicted seconds, more than 0. Of what was never done: as another number of rows, or
        another shape of the model, in proportion."""
        if (bucket, rows) in self.seconds:
            return max(self.seconds[bucket, rows], 1e-9)
        size, weight = prod(bucket.shape), max(rows, 1)
        known = [
            seconds * size / prod(other.shape) * weight / max(number, 1)
            for (other, number), seconds in self.seconds.items()
            if other.model == bucket.model and (number > 0) == (rows > 0)
        ]
        return max(min(known, default=1e-6 * size * weight), 1e-9)

    def pays(self, tasks: Sequence[Task]) -> bool:
        """Whether tasks of a bucket take less together; tried a few times before it is known."""
        bucket, rows = tasks[0].bucket, sum(task.rows for task in tasks)
        if self.times.get((bucket, rows), 0) < TRIES:
            return True
        each = sum(self.of(bucket, task.rows) for task in tasks)
        return self.of(bucket, rows) < PAYS * each


def tasks_of(model: str, jobs: Iterable[Job], costs: Costs, now: float) -> Iterator[Task]:
    """What a model's pictures want."""
    for job in jobs:
        if job.state is None:
            continue
        state = job.state
        bucket = Bucket(model, tuple(state.solving.x.shape[1:]))
        rows = sum(1 + len(one.terms) for one in state.guidances)
        step, last = costs.of(bucket, rows), costs.of(bucket, 0)
        left = (len(state.table) - state.step) * step + last
        whole = len(state.table) * step + last
        yield Task(job, bucket, rows, left, whole, now - job.since, state.done)


def chosen(tasks: Sequence[Task], costs: Costs) -> list[Task]:
    """The most urgent, and of its bucket what goes with it at less cost than one by one."""
    first = min(tasks, key=lambda task: task.urgency)
    if first.decodes:
        return [first]
    beside = [one for one in tasks if one.bucket == first.bucket and not one.decodes]
    beside.sort(key=lambda task: task.urgency)
    return beside if len(beside) > 1 and costs.pays(beside) else [first]
