"""Calls of the store, in short."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from sqlalchemy import Connection, select

from diptych.service.jobs import queries, store, tidying
from diptych.service.jobs.accepting import Wanted, accept
from diptych.service.jobs.database import Database
from diptych.service.jobs.schema import job
from diptych.service.jobs.store import Moved, Stored

SHA = "ab" * 32
_TICKS = count()
PICTURE = Stored(SHA, "image/png", 10)


def ask(database: Database, name: str = "ann", number: int = 1, **changes: Any) -> list[str]:
    wanted = [Wanted(**{"kind": "picture", "spec": {}, "cost": 1.0, **changes})] * number
    wall = 1000.0 + next(_TICKS) / 1000  # who asks first is first
    return list(database.write_now(lambda c: accept(c, name, wanted, wall)).ids)


def claim(database: Database, steady: float = 0.0, busy: bool = False) -> store.Claimed:
    return database.write_now(lambda c: store.claim(c, steady, 1000.0, 30.0, busy=busy))


def row(database: Database, job_id: str) -> Any:
    return database.read(lambda c: c.execute(select(job).where(job.c.id == job_id)).one())


def kinds(database: Database, job_id: str) -> list[str]:
    found = database.read(lambda c: queries.events_after(c, job_id))
    assert [one.seq for one in found] == list(range(1, len(found) + 1))
    return [one.kind for one in found]


def order(database: Database, number: int = 1000) -> list[str]:
    """Owners, in the order in which their jobs are claimed."""
    owners: list[str] = []
    while len(owners) < number and (moved := claim(database).moved) is not None:
        owners.append(moved.owner)
    return owners


F = 1  # the fence of a first claim
Call = Callable[[Connection, str, int], Moved | None]
STEPS: dict[str, Call] = {
    "complete": lambda c, i, f: store.complete(c, i, f, {"seed": 1}, [PICTURE], 1001.0),
    "fail": lambda c, i, f: store.fail(c, i, f, "out-of-memory", "too large", 1001.0),
    "put back": lambda c, i, f: store.put_back(c, i, f, 50.0, 1001.0, refund=False),
    "drain": lambda c, i, f: store.put_back(c, i, f, 0.0, 1001.0, refund=True),
    "canceled": lambda c, i, f: store.canceled(c, i, f, 1001.0),
    "checkpointed": lambda c, i, f: store.checkpointed(c, i, f, 3, {"sha256": SHA}, 60.0, 1001.0),
    "cancel": lambda c, i, f: store.cancel(c, i, 1001.0),
    "hold": lambda c, i, f: store.hold(c, i, True, 1001.0),
    "release": lambda c, i, f: store.hold(c, i, False, 1001.0),
    "dead": lambda c, i, f: next(iter(tidying.reap(c, 0.0, 1001.0, dead=True)), None),
    "late": lambda c, i, f: next(iter(tidying.reap(c, 31.0, 1001.0)), None),
    "early": lambda c, i, f: next(iter(tidying.reap(c, 29.0, 1001.0)), None),
    "restart": lambda c, i, f: next(iter(tidying.begin_again(c, 1001.0)), None),
    "expire": lambda c, i, f: next(iter(tidying.expire(c, 0.0, 2001.0)), None),
    "claim": lambda c, i, f: store.claim(c, 0.0, 1001.0, 30.0).moved,
}
