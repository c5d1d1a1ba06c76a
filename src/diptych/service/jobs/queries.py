"""What is asked of the tables; nothing here changes them. Hidden jobs are left out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
    union_all,
)

from diptych.service.jobs.schema import (
    QUEUED,
    RUNNING,
    artifact,
    event,
    job,
    job_artifact,
    owner,
    tombstone,
)

_SHOWN = job.c.erase_at.is_(None)
# Without a word of the job in it, so that it is looked up once and not for each of them.
_PAUSED = job.c.owner.in_(select(owner.c.name).where(owner.c.paused))
WAITS = and_(QUEUED, not_(job.c.held), _SHOWN, not_(_PAUSED))
ORDER = (job.c["class"], job.c.vtime, job.c.created, job.c.id)  # in which jobs are claimed


def _before() -> ColumnElement[bool]:
    """What is claimed before a place in that order. Written out, since a comparison of rows is no
    matter of course in every database."""
    here = [bindparam(f"at_{one.name}", type_=one.type) for one in ORDER]
    return or_(
        *(
            and_(*(ORDER[j] == here[j] for j in range(i)), ORDER[i] < here[i])
            for i in range(len(ORDER))
        )
    )


# Built once: to put a statement together takes longer than to run it.
_JOB = select(job).where(job.c.id == bindparam("job_id"))
_COST = func.coalesce(func.sum(job.c.cost), 0.0)
_BEFORE = select(func.count(), _COST).where(WAITS, _before())
_BETWEEN = _BEFORE.where(job.c["class"] == bindparam("at_class"), job.c.vtime > bindparam("after"))
_RUNNING = select(job.c.cost, job.c.step, job.c.steps).where(RUNNING)


# In two, since of a condition with `or` SQLite makes a search through all jobs there ever were. An
# index holds all that the first reads.
_SUMS = job.c.owner, job.c["class"], func.count(), func.sum(job.c.cost)
_MAY = case((and_(not_(job.c.held), _SHOWN), job.c.cost), else_=0.0)
_LOADS = union_all(
    select(*_SUMS, func.sum(_MAY)).where(QUEUED).group_by(job.c.owner, job.c["class"]),
    select(*_SUMS, literal(0.0)).where(RUNNING).group_by(job.c.owner, job.c["class"]),
)
_WHO_PAUSES = select(owner.c.name).where(owner.c.paused)


class Load(NamedTuple):
    """An owner's jobs of a class that wait or run: how many, and their predicted seconds; `free`:
    of those that may be claimed."""

    owner: str
    rank: int
    number: int
    seconds: float
    free: float


class Place(NamedTuple):
    """Of a job in the order in which jobs are claimed."""

    rank: int
    vtime: float
    created: float
    id: str

    @property
    def values(self) -> dict[str, Any]:
        """As the queries take it."""
        return {f"at_{column.name}": value for column, value in zip(ORDER, self, strict=True)}


def job_of(connection: Connection, job_id: str) -> Row[Any] | None:
    """A job's row; None where it is not there, or hidden."""
    return connection.execute(select(job).where(job.c.id == job_id, _SHOWN)).one_or_none()


def listed(
    connection: Connection,
    name: str,
    *,
    status: Collection[str] = (),
    before: str = "",
    limit: int = 50,
) -> Sequence[Any]:
    """An owner's jobs, the newest first; the next page is `before` the last identifier of this."""
    asked = select(job).where(job.c.owner == name, _SHOWN)
    if status:
        asked = asked.where(job.c.status.in_(list(status)))
    if before:
        asked = asked.where(job.c.id < before)
    return connection.execute(asked.order_by(job.c.id.desc()).limit(limit)).all()


def events_after(connection: Connection, job_id: str, seq: int = 0) -> Sequence[Any]:
    """A job's history after an event, in order."""
    after = select(event).where(event.c.job_id == job_id, event.c.seq > seq)
    shown = exists().where(job.c.id == event.c.job_id, _SHOWN)
    return connection.execute(after.where(shown).order_by(event.c.seq)).all()


def artifacts_of(connection: Connection, job_id: str) -> Sequence[Any]:
    """A job's artifacts (role, place, sha256, media, size), by role and place."""
    shown = exists().where(job.c.id == job_artifact.c.job_id, _SHOWN)
    return connection.execute(
        select(
            job_artifact.c.role, job_artifact.c.place, artifact.c.sha256, artifact.c.media,
            artifact.c.size,
        )
        .join(artifact, artifact.c.sha256 == job_artifact.c.sha256)
        .where(job_artifact.c.job_id == job_id, artifact.c.state == "live", shown)
        .order_by(job_artifact.c.role, job_artifact.c.place)
    ).all()  # fmt: skip


def queue(connection: Connection) -> Sequence[Any]:
    """Jobs that wait (id, owner, cost), in the order in which they are claimed. Those that were
    put back for a while are among them."""
    asked = select(job.c.id, job.c.owner, job.c.cost).where(WAITS).order_by(*ORDER)
    return connection.execute(asked).all()


def ahead(connection: Connection, job_id: str) -> tuple[int, float]:
    """How many jobs end before a queued one begins, and their predicted seconds of the engine;
    of those under way, what is left. (0, 0) where it is not queued."""
    row = connection.execute(_JOB, {"job_id": job_id}).one_or_none()
    return (0, 0.0) if row is None else ahead_of(connection, row)


def ahead_of(connection: Connection, row: Row[Any]) -> tuple[int, float]:
    """`ahead` of a job whose row was read in this transaction."""
    if row.status != "queued":
        return 0, 0.0
    place = Place(*(row._mapping[one.name] for one in ORDER))
    number, seconds = connection.execute(_BEFORE, place.values).one()
    under_way, left = running(connection)
    return int(number) + under_way, float(seconds) + left


def running(connection: Connection) -> tuple[int, float]:
    """How many jobs are under way, and what is left of their predicted seconds."""
    rows = connection.execute(_RUNNING).all()
    return len(rows), sum(one.cost * max(0.0, 1 - one.step / max(one.steps, 1)) for one in rows)


def tombstone_of(connection: Connection, job_id: str) -> Row[Any] | None:
    """What remains of an erased job."""
    asked = select(tombstone).where(tombstone.c.job_id == job_id)
    return connection.execute(asked).one_or_none()


def counts(connection: Connection) -> dict[str, int]:
    """How many jobs there are of each status."""
    asked = select(job.c.status, func.count()).where(_SHOWN).group_by(job.c.status)
    return {status: int(number) for status, number in connection.execute(asked)}


def load(connection: Connection, name: str = "") -> tuple[int, float]:
    """Jobs that wait or run and their predicted seconds, of one owner or of all."""
    found = [one for one in loads(connection) if name in ("", one.owner)]
    return sum(one.number for one in found), sum(one.seconds for one in found)


def loads(connection: Connection) -> list[Load]:
    """Of each owner and class that has any; those that wait and those that run are told apart."""
    pauses = set(connection.scalars(_WHO_PAUSES))
    found: list[Load] = []
    for row in connection.execute(_LOADS):
        name, rank, number, seconds, free = row
        found.append(Load(name, rank, number, seconds, 0.0 if name in pauses else free))
    return found


def seconds_before(connection: Connection, place: Place, *, after: Place | None) -> float:
    """Predicted seconds of what is claimed before a place; given one `after` which it comes, in the
    same class, only of what stands between."""
    if after is None:
        return float(connection.execute(_BEFORE, place.values).one()[1])
    between = {**place.values, "after": after.vtime}
    return float(connection.execute(_BETWEEN, between).one()[1])


def equal(connection: Connection, name: str, sha: str, fingerprint: str) -> Any | None:
    """A job of the same owner (id, result) that answered an equal request, by the same weights and
    machine."""
    rows = connection.execute(
        select(job.c.id, job.c.result)
        .where(job.c.owner == name, job.c.spec_sha == sha, job.c.status == "complete", _SHOWN)
        .order_by(job.c.id.desc())
        .limit(4)
    ).all()
    same = (row for row in rows if (row.result or {}).get("fingerprint") == fingerprint)
    return next(same, None)
