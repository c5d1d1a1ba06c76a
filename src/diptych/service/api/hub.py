"""From who makes something happen to who looks on, within this process.

A transition is only a bell here: its listener reads the database, which has every event and their
order. What is not in the database (steps, previews, pieces of text) goes through a bounded queue,
and whoever is too slow loses the oldest of it. All on one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from diptych.service.jobs.store import Moved

MOST_WAITING = 512
MOST_TRACED = 10_000


@dataclass(frozen=True)
class Live:
    """`kind`: step {"step", "steps"}, preview {"png": base64, "step"} or text {"text"}."""

    job_id: str
    kind: str
    data: Mapping[str, Any]


@dataclass(eq=False)
class Listener:
    """One who looks on. `moved`: the database has news, at first as far as it knows. `lost`: it was
    too slow, and pieces are missing."""

    waiting: deque[Live] = field(default_factory=lambda: deque(maxlen=MOST_WAITING))
    moved: bool = True
    lost: bool = False
    bell: asyncio.Event = field(default_factory=asyncio.Event)

    async def rung(self, seconds: float) -> bool:
        """Wait for anything new. False when nothing came in time; a bell may have been lost, so
        that the database is worth a look."""
        try:
            async with asyncio.timeout(seconds):
                await self.bell.wait()
        except TimeoutError:
            self.moved = True
            return False
        self.bell.clear()
        return True

    def taken(self) -> tuple[list[Live], bool]:
        """What waited, in order, and whether to look into the database."""
        pieces, moved = list(self.waiting), self.moved
        self.waiting.clear()
        self.moved = False
        return pieces, moved


class Hub:
    """Listeners by job, and in whose trace a job stands."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Listener]] = {}
        self._parents: dict[str, str] = {}

    def traced(self, job_id: str, parent: str) -> None:
        """A job belongs to a trace; of very many the oldest are forgotten."""
        if parent:
            self._parents[job_id] = parent
            if len(self._parents) > MOST_TRACED:
                del self._parents[next(iter(self._parents))]

    def parent(self, job_id: str) -> str:
        """The `traceparent` of a job, empty for none."""
        return self._parents.get(job_id, "")

    def publish(self, said: Moved | Live) -> None:
        """Tell who looks on; nobody is no error."""
        job_id = said.job_id if isinstance(said, Live) else said.id
        for listener in self._listeners.get(job_id, ()):
            if isinstance(said, Live):
                listener.lost |= len(listener.waiting) == MOST_WAITING
                listener.waiting.append(said)
            else:
                listener.moved = True
            listener.bell.set()

    @contextmanager
    def subscribe(self, job_id: str) -> Iterator[Listener]:
        """Look on. Subscribe first and read the database then: nothing falls between."""
        listener = Listener()
        self._listeners.setdefault(job_id, set()).add(listener)
        try:
            yield listener
        finally:
            rest = self._listeners[job_id]
            rest.discard(listener)
            if not rest:
                del self._listeners[job_id]

    @property
    def listeners(self) -> int:
        """How many look on."""
        return sum(map(len, self._listeners.values()))
