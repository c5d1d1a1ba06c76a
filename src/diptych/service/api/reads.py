"""What the routes ask of the tables; nothing here changes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, exists, select

from diptych.service.guards.keys import Key
from diptych.service.jobs import queries
from diptych.service.jobs.queries import ORDER
from diptych.service.jobs.queries import listed as listed
from diptych.service.jobs.queries import tombstone_of as tombstone_of
from diptych.service.jobs.schema import (
    api_key,
    artifact,
    event,
    idempotency,
    job,
    job_artifact,
    owner,
    rating,
)

_SHOWN = job.c.erase_at.is_(None)
_JOB = select(job).where(job.c.id == bindparam("job_id"))


def job_of(connection: Connection, job_id: str) -> Row[Any] | None:
    """A job's row, hidden or not."""
    return connection.execute(_JOB, {"job_id": job_id}).one_or_none()


def waiting(connection: Connection, name: str) -> Sequence[Row[Any]]:
    """An owner's jobs under way and in the queue, in their order."""
    mine = and_(job.c.owner == name, _SHOWN, job.c.status.in_(["queued", "running"]))
    return connection.execute(select(job).where(mine).order_by(job.c.status.desc(), *ORDER)).all()


def events_after(connection: Connection, job_id: str, seq: int) -> Sequence[Row[Any]]:
    """A job's history after an event, in order."""
    after = select(event).where(event.c.job_id == job_id, event.c.seq > seq)
    return connection.execute(after.order_by(event.c.seq)).all()


def made_by(connection: Connection, ids: Collection[str]) -> Mapping[str, list[Any]]:
    """What jobs have made, without what they read: (job_id, role, sha256, media), in order."""
    rows = connection.execute(
        select(job_artifact.c.job_id, job_artifact.c.role, artifact.c.sha256, artifact.c.media)
        .join(artifact, artifact.c.sha256 == job_artifact.c.sha256)
        .where(job_artifact.c.job_id.in_(list(ids)), job_artifact.c.role != "input")
        .where(artifact.c.state == "live")
        .order_by(job_artifact.c.role, job_artifact.c.place)
    )
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row.job_id, []).append(row)
    return found


def ratings_of(connection: Connection, ids: Collection[str]) -> Mapping[str, int]:
    """Thumbs by job."""
    asked = select(rating.c.job_id, rating.c.value).where(rating.c.job_id.in_(list(ids)))
    return {row.job_id: row.value for row in connection.execute(asked)}


def rated(connection: Connection, name: str) -> Sequence[Row[Any]]:
    """An owner's jobs with a thumb, and it as `value`, the oldest first."""
    mine = and_(job.c.owner == name, _SHOWN, job.c.status == "complete")
    asked = select(job, rating.c.value, rating.c.at).join(rating, rating.c.job_id == job.c.id)
    return connection.execute(asked.where(mine).order_by(job.c.id)).all()


def media_of(connection: Connection, sha256: str) -> str | None:
    """The kind of a file that some job still shows; None where none does."""
    shown = exists().where(
        job_artifact.c.sha256 == artifact.c.sha256, job.c.id == job_artifact.c.job_id, _SHOWN
    )
    return connection.scalar(
        select(artifact.c.media).where(
            artifact.c.sha256 == sha256, artifact.c.state == "live", shown
        )
    )


def etas(connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, float]:
    """Predicted seconds until each queued one of these jobs is done: what is left of those under
    way, what goes before it in the queue, and itself."""
    queued = [row for row in rows if row.status == "queued"]
    if not queued:
        return {}
    if len(queued) == 1:  # the usual case, which need not read the whole queue
        (row,) = queued
        return {row.id: queries.ahead_of(connection, row)[1] + row.cost}
    _, busy = queries.running(connection)
    waits, found = busy, {}
    free = queries.WAITS.label("free")
    asked = select(job.c.id, job.c.cost, free).where(job.c.status == "queued").order_by(*ORDER)
    for one in connection.execute(asked):
        found[one.id] = waits + one.cost
        waits += one.cost if one.free else 0.0
    return {row.id: found.get(row.id, busy + row.cost) for row in queued}


def is_paused(connection: Connection, name: str) -> bool:
    """Whether none of an owner's jobs is begun."""
    return bool(connection.scalar(select(owner.c.paused).where(owner.c.name == name)))


def key_is_known(connection: Connection, name: str, key: str) -> bool:
    """Whether an owner used an Idempotency-Key before."""
    mine = and_(idempotency.c.owner == name, idempotency.c.key == key)
    return connection.scalar(select(idempotency.c.created).where(mine)) is not None


def key_of(connection: Connection, sha256: str) -> Key | None:
    """An API key that is not revoked."""
    found = connection.execute(
        select(api_key).where(api_key.c.sha256 == sha256, api_key.c.revoked.is_(None))
    ).one_or_none()
    if found is None:
        return None
    return Key(sha256=found.sha256, prefix=found.id, owner=found.owner, role=found.role)


def batch_of(connection: Connection, job_id: str) -> str:
    """The batch that a job was asked for in."""
    return connection.scalar(select(job.c.batch).where(job.c.id == job_id)) or ""
