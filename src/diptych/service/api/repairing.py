"""A picture whose file is missing or altered is painted again, from the job that made it."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, Row, select

from diptych.service.api.admitting import has_room
from diptych.service.api.asking import Ask
from diptych.service.guards.problem import Problem
from diptych.service.jobs import accepting, queries
from diptych.service.jobs.accepting import Accepted, Key, Wanted
from diptych.service.jobs.schema import job, job_artifact
from diptych.service.jobs.store import Stored

EACH = 60.0  # seconds in which one picture is painted again once, however often it is asked for


async def repaired(ask: Ask, sha256: str) -> Problem:
    """What to answer for a picture that a job shows and whose file is not what it was: 503, and a
    job like the first is on its way, whose bytes have the same name; 404 where no model here would
    give the same bytes."""
    row = ask.read(lambda c: _maker(c, sha256))
    if row is None or not _same(ask, row):
        return Problem("not-found", detail="The picture was erased. Paint it anew from its seed.")
    if not has_room(ask.state):
        return Problem("disk-full", detail="Ask the operator for room.")
    wall = time.time()
    key = Key(f"paint again {sha256} {int(wall / EACH)}", sha256)

    def run(connection: Connection) -> Accepted:
        read = queries.artifacts_of(connection, row.id)
        inputs = [Stored(r.sha256, r.media, r.size, "input") for r in read if r.role == "input"]
        wanted = Wanted(kind=row.kind, spec=row.spec, cost=row.cost, steps=row.steps, inputs=inputs)
        return accepting.accept(connection, row.owner, [wanted], wall, key)

    done = await ask.state.database.write(run)
    for moved in done.moved:
        ask.state.hub.publish(moved)
    if done.moved:
        ask.state.engine.ring()
    return Problem(
        "busy", detail="The picture's file was lost. It is painted again; ask in a few seconds.",
        headers={"Retry-After": "5"},
    )  # fmt: skip


def _maker(connection: Connection, sha256: str) -> Row[Any] | None:
    """A job that painted it and is shown."""
    return connection.execute(
        select(job)
        .join(job_artifact, job_artifact.c.job_id == job.c.id)
        .where(job_artifact.c.sha256 == sha256, job_artifact.c.role == "picture")
        .where(job.c.kind == "paint", job.c.status == "complete", job.c.erase_at.is_(None))
        .order_by(job.c.id)
        .limit(1)
    ).one_or_none()


def _same(ask: Ask, row: Row[Any]) -> bool:
    """Whether the weights and the machine are those that gave it."""
    info = ask.state.engine.models.get(row.spec["model"])
    return info is not None and (row.result or {}).get("fingerprint") == info.fingerprint
