"""What an owner writes beside the machine of states: delete and undo, stars and thumbs."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, update

from diptych.service.jobs import store
from diptych.service.jobs.schema import job, rating
from diptych.service.jobs.store import Moved


def hide(connection: Connection, job_id: str, wall: float, erase_at: float) -> Moved | None:
    """Hide a job, to be erased later; one that is not done is given up first."""
    moved = store.cancel(connection, job_id, wall)
    connection.execute(update(job).where(job.c.id == job_id).values(erase_at=erase_at))
    return moved


def show(connection: Connection, job_id: str, wall: float) -> bool:
    """Undo `hide`. False when it is too late."""
    still = update(job).where(job.c.id == job_id, job.c.erase_at > wall)
    return connection.execute(still.values(erase_at=None)).rowcount == 1


def star(connection: Connection, job_id: str, starred: bool) -> None:
    """Star a job, or not."""
    connection.execute(update(job).where(job.c.id == job_id).values(starred=starred))


def rate(connection: Connection, job_id: str, name: str, value: int, wall: float) -> None:
    """Thumbs up (1), down (-1), or neither (0)."""
    connection.execute(delete(rating).where(rating.c.job_id == job_id))
    if value:
        row = {"job_id": job_id, "owner": name, "value": value, "at": wall}
        connection.execute(insert(rating), row)
