"""What nobody asks for and must be done: lost workers, old jobs, jobs to be forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select, update

from diptych.service.jobs import machine, store
from diptych.service.jobs.accepting import forget_keys as forget_keys
from diptych.service.jobs.machine import TERMINAL
from diptych.service.jobs.schema import artifact, idempotency, job, job_artifact, tombstone
from diptych.service.jobs.store import Moved

AT_ONCE = 500  # jobs of one transaction


def begin_again(connection: Connection, wall: float) -> list[Moved]:
    """At the start of the one server of a folder: no worker is left of those that had jobs, and
    none of the jobs is to blame. The steady clock may be another one, so nothing waits for it."""
    connection.execute(update(job).where(job.c.status == "queued").values(not_before=0.0))
    return _reaped(connection, store.running(connection), 0.0, wall, dead=True, blame=False)


def reap(connection: Connection, steady: float, wall: float, dead: bool = False) -> list[Moved]:
    """Jobs whose lease is over go back, or fail; all that run where the engine is known to be
    `dead`. Its death is counted against them, since one of them may have caused it."""
    late = (
        store.running(connection)
        if dead
        else [
            row
            for row in store.overdue(connection, steady, wall)
            if row.status == "running"
        ]
    )  # fmt: skip
    return _reaped(connection, late, steady, wall, dead=dead, blame=True)


def _reaped(
    connection: Connection,
    rows: Sequence[Any],
    steady: float,
    wall: float,
    *,
    dead: bool,
    blame: bool,
) -> list[Moved]:
    moved = (
        store.move(
            connection, row.id,
            lambda j, f=row.fence: machine.reap(j, f, steady, dead=dead, blame=blame), wall,
        )
        for row in rows
    )  # fmt: skip
    return [one for one in moved if one is not None]


def expire(connection: Connection, steady: float, wall: float) -> list[Moved]:
    """Queued jobs whose time is over have failed."""
    rows = [row for row in store.overdue(connection, steady, wall) if row.status == "queued"]
    moved = (store.expire(connection, row.id, wall) for row in rows)
    return [one for one in moved if one is not None]


# --- deletion -------------------------------------------------------------------------------------


def hide(connection: Connection, job_id: str, wall: float, erase_at: float) -> list[Moved] | None:
    """Delete a job, for now so that it can be taken back until it is erased. One that has not ended
    is canceled, and stays so. None where it is not there or hidden already."""
    shown = job.c.id == job_id, job.c.erase_at.is_(None)
    hidden = connection.execute(update(job).where(*shown).values(erase_at=erase_at))
    if hidden.rowcount == 0:
        return None
    moved = store.cancel(connection, job_id, wall)
    return [] if moved is None else [moved]


def unhide(connection: Connection, job_id: str, wall: float) -> bool:
    """Take a deletion back; False where it is too late, or was none."""
    hidden = job.c.id == job_id, job.c.erase_at > wall
    return connection.execute(update(job).where(*hidden).values(erase_at=None)).rowcount > 0


def erase_due(connection: Connection, wall: float) -> list[str]:
    """Erase what was deleted for good. Gives the artifacts that no job needs any more."""
    due = select(job.c.id).where(job.c.erase_at <= wall, job.c.status.in_(TERMINAL))
    ids = connection.scalars(due.order_by(job.c.erase_at).limit(AT_ONCE)).all()
    return erase(connection, ids, wall, "deleted")


def retire(connection: Connection, wall: float, keep: float) -> list[str]:
    """Erase what ended more than `keep` seconds ago, unless it is starred. Gives the artifacts that
    no job needs any more."""
    old = select(job.c.id).where(
        job.c.status.in_(TERMINAL), job.c.ended < wall - keep, job.c.starred.is_(False)
    )
    ids = connection.scalars(old.order_by(job.c.ended).limit(AT_ONCE)).all()
    return erase(connection, ids, wall, "retention")


def erase(connection: Connection, ids: Sequence[str], wall: float, cause: str) -> list[str]:
    """Leave nothing of jobs that have ended but identifier, owner, time and cause. Gives the
    artifacts that no job needs any more."""
    if not ids:
        return []
    these = job.c.id.in_(ids), job.c.status.in_(TERMINAL)
    gone = connection.execute(select(job.c.id, job.c.owner).where(*these)).all()
    if not gone:
        return []
    ids = [row.id for row in gone]
    had = connection.scalars(
        select(job_artifact.c.sha256).where(job_artifact.c.job_id.in_(ids)).distinct()
    ).all()
    _forget_answers(connection, {row.owner for row in gone}, set(ids))
    # History, ratings and ties to artifacts go with the row.
    connection.execute(delete(job).where(job.c.id.in_(ids)))
    connection.execute(
        insert(tombstone),
        [{"job_id": row.id, "owner": row.owner, "at": wall, "cause": cause} for row in gone],
    )
    return unneeded(connection, had)


def _forget_answers(connection: Connection, owners: set[str], ids: set[str]) -> None:
    """Keys whose jobs are all gone. One that also stands for others must go on standing for them:
    else a request that is sent again would make them anew."""
    rows = connection.execute(select(idempotency).where(idempotency.c.owner.in_(owners))).all()
    for row in rows:
        if not ids.intersection(row.answer):
            continue
        others = set(row.answer) - ids
        left = select(job.c.id).where(job.c.id.in_(others)).limit(1)
        if not others or connection.scalar(left) is None:
            connection.execute(
                delete(idempotency).where(
                    idempotency.c.owner == row.owner, idempotency.c.key == row.key
                )
            )


def unneeded(connection: Connection, shas: Sequence[str]) -> list[str]:
    """Of these artifacts, those that no job has."""
    needed = set(
        connection.scalars(select(job_artifact.c.sha256).where(job_artifact.c.sha256.in_(shas)))
    )
    return sorted(set(shas) - needed)


def strays(connection: Connection, wall: float, older: float) -> list[str]:
    """Artifacts that no job has, and those whose deletion was not brought to its end."""
    tied = select(job_artifact.c.sha256).where(job_artifact.c.sha256 == artifact.c.sha256)
    asked = select(artifact.c.sha256).where(~tied.exists())
    old = or_(artifact.c.created < wall - older, artifact.c.state == "deleting")
    return list(connection.scalars(asked.where(old)))
