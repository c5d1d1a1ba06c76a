"""What an owner writes beside the machine of states: stars and thumbs."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, update

from diptych.service.jobs.schema import job, rating


def star(connection: Connection, job_id: str, starred: bool) -> None:
    """Star a job, or not."""
    connection.execute(update(job).where(job.c.id == job_id).values(starred=starred))


def rate(connection: Connection, job_id: str, name: str, value: int, wall: float) -> None:
    """Thumbs up (1), down (-1), or neither (0)."""
    connection.execute(delete(rating).where(rating.c.job_id == job_id))
    if value:
        row = {"job_id": job_id, "owner": name, "value": value, "at": wall}
        connection.execute(insert(rating), row)
