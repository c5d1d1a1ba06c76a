"""Whether it lives, whether it can accept, and figures of both."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import generate_latest
from starlette.responses import Response

from diptych.foundation.errors import NotWritten
from diptych.service.api.admitting import has_room
from diptych.service.api.asking import Ask, Handler, Row, said
from diptych.service.api.shapes import HealthShape
from diptych.service.api.state import State
from diptych.service.jobs import queries
from diptych.service.jobs.facts import put_fact

_EACH = 1.0  # seconds between two commits that only ask
_LONGEST = 5.0
_KIND = "text/plain; version=0.0.4"


async def health(ask: Ask) -> Response:
    """The loop turns."""
    return said({"status": "ok"})


@dataclass(kw_only=True)
class Ready:
    """A commit that really happened, at most one a second however often it is asked."""

    asked: float = -_EACH
    writes: bool = False
    door: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self, ask: Ask) -> Response:
        """200 where a job would be accepted; a cold engine does not change that."""
        async with self.door:
            if time.monotonic() - self.asked >= _EACH:
                self.writes = await _commits(ask.state)
                self.asked = time.monotonic()
        room = has_room(ask.state)
        ready = self.writes and room
        told = {"status": "ready" if ready else "not-ready", "engine": ask.state.engine.state}
        return said({**told, "database": self.writes, "disk": room}, 200 if ready else 503)


async def _commits(state: State) -> bool:
    try:
        async with asyncio.timeout(_LONGEST):
            await state.database.write(lambda c: put_fact(c, "ready", time.time()))
    except (NotWritten, TimeoutError, OSError):
        return False
    return True


async def metrics(ask: Ask) -> Response:
    """What Prometheus reads."""
    state = ask.state
    jobs, waits = ask.read(lambda c: (queries.counts(c), queries.load(c)[1]))
    lines = [generate_latest(state.figures.registry).decode().rstrip("\n")]
    lines += _gauge(
        "diptych_jobs", "Jobs by status", {f'{{status="{k}"}}': n for k, n in jobs.items()}
    )
    lines += _gauge("diptych_queue_seconds", "Predicted seconds of the engine", {"": waits})
    lines += _gauge("diptych_listeners", "Open streams of events", {"": state.hub.listeners})
    ready = float(state.engine.state == "ready")
    lines += _gauge("diptych_engine_ready", "Whether the engine works", {"": ready})
    return Response("\n".join(lines) + "\n", media_type=_KIND)


def _gauge(name: str, says: str, values: dict[str, Any]) -> list[str]:
    head = [f"# HELP {name} {says}", f"# TYPE {name} gauge"]
    return head + [f"{name}{labels} {value}" for labels, value in values.items()]


def routes() -> tuple[Row, ...]:
    """Routes of one application, with its own memory of when it last looked."""
    ready = Ready()
    given: tuple[tuple[str, Handler, tuple[int, ...]], ...] = (
        ("/health", health, ()), ("/healthz", health, ()),
        ("/ready", ready, (503,)), ("/readyz", ready, (503,)),
    )  # fmt: skip
    rows = [
        Row(
            method="GET", path=path, handler=handler, says="Health", gives=HealthShape,
            statuses=statuses, access="open",
        )
        for path, handler, statuses in given
    ]  # fmt: skip
    figures = Row(
        method="GET", path="/metrics", handler=metrics, says="Figures for Prometheus",
        kinds=("text/plain",), access="admin", statuses=(403,),
    )  # fmt: skip
    return (*rows, figures)
