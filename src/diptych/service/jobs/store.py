"""The transitions of the machine, made durable: each in the caller's transaction, with its event.

Functions on a connection of the one writer. `steady` seconds never jump, `wall` seconds are told to
people; the caller reads the clocks. Portable SQL: SQLite here, PostgreSQL elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from diptych.service.jobs import fairness, machine
from diptych.service.jobs.facts import known_owner
from diptych.service.jobs.machine import Change, Job
from diptych.service.jobs.queries import ORDER, WAITS
from diptych.service.jobs.schema import QUEUED, RUNNING, artifact, event, job, job_artifact, owner

_DECIDES = tuple(one.name for one in fields(Job))
_GET = select(job).where(job.c.id == bindparam("job_id")).with_for_update()
_SAID = {name: bindparam(f"now_{name}") for name in _DECIDES}
_SET = update(job).where(job.c.id == bindparam("job_id")).values(**_SAID)
_TELL = insert(event)
_READY = (
    select(job)
    .where(WAITS, job.c.not_before <= bindparam("steady"))
    .order_by(*ORDER)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_RUNNING = select(job).where(RUNNING)
_LATE = _RUNNING.where(job.c.lease_until < bindparam("steady"))
_OLD = select(job).where(QUEUED, job.c.deadline > 0, job.c.deadline < bindparam("wall"))
_STATE = select(artifact.c.state).where(artifact.c.sha256 == bindparam("sha")).with_for_update()


@dataclass(frozen=True)
class Moved:
    """What a transition made of a job: `seq` is its event's number, 0 where there was none."""

    id: str
    owner: str
    job: Job
    seq: int = 0
    kind: str = ""
    data: Mapping[str, Any] | None = None


def machine_of(row: Row[Any] | Mapping[str, Any]) -> Job:
    """The part of a row that decides."""
    found = row if isinstance(row, Mapping) else row._mapping
    return Job(**{name: found[name] for name in _DECIDES})


def move(
    connection: Connection,
    job_id: str,
    rule: Callable[[Job], Change | None],
    wall: float,
    data: Mapping[str, Any] | None = None,
    **cargo: Any,
) -> Moved | None:
    """One job by one rule of the machine; None where it is not there or the guard does not hold.
    `cargo` are columns that go with it, `data` what its event says."""
    row = connection.execute(_GET, {"job_id": job_id}).one_or_none()
    change = None if row is None else rule(machine_of(row))
    if row is None or change is None:
        return None
    return _written(connection, row._mapping, change, wall, data, cargo)


def _written(
    connection: Connection,
    row: Mapping[Any, Any],
    change: Change,
    wall: float,
    data: Mapping[str, Any] | None,
    cargo: dict[str, Any],
) -> Moved:
    now, job_id = change.job, row["id"]
    if now.terminal:
        cargo["ended"] = wall
    said_now = {f"now_{name}": getattr(now, name) for name in _DECIDES}
    connection.execute(_SET.values(**cargo) if cargo else _SET, {"job_id": job_id, **said_now})
    if not change.event:
        return Moved(job_id, row["owner"], now)
    said = dict(data or {})
    if now.error:
        said["code"] = now.error
    connection.execute(
        _TELL,
        {"job_id": job_id, "seq": now.rev, "kind": change.event, "at": wall, "data": said},
    )
    return Moved(job_id, row["owner"], now, now.rev, change.event, said)


# --- what workers ask -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Claimed:
    """A job for a worker. `wait`: there is one, and it must be alone in the engine."""

    moved: Moved | None = None
    row: Mapping[str, Any] | None = None
    wait: bool = False


def claim(
    connection: Connection, steady: float, wall: float, lease: float, *, busy: bool = False
) -> Claimed:
    """The next job by class, then fairness, then age. `busy`: the worker has others under way, so
    that one which must run alone is left where it is, and nothing overtakes it."""
    row = connection.execute(_READY, {"steady": steady}).one_or_none()
    if row is None:
        return Claimed()
    found = row._mapping
    if found["solo"] and busy:
        return Claimed(wait=True)
    change = machine.claim(machine_of(row), steady, lease)
    if change is None:
        return Claimed()
    moved = _written(
        connection, found, change, wall, {"attempt": change.job.attempt}, {"started": wall}
    )
    fairness.begun(connection, found)
    return Claimed(moved, {**found, **asdict(change.job)})


@dataclass(frozen=True)
class Progress:
    """A worker's word of a job: it made so many evaluations."""

    id: str
    fence: int
    step: int


def renew(
    connection: Connection, told: Sequence[Progress], lease_until: float, wall: float
) -> dict[str, str]:
    """Longer leases. Of each job: `held`, `cancel` when its owner gave it up, or `lost`."""
    answers: dict[str, str] = {}
    for one in told:
        moved = move(
            connection, one.id, lambda j, f=one.fence: machine.renew(j, f, lease_until), wall,
            step=one.step,
        )  # fmt: skip
        answers[one.id] = (
            "lost" if moved is None else "cancel" if moved.job.cancel_asked else "held"
        )
    return answers


@dataclass(frozen=True)
class Stored:
    """A file of the artifact store, written and synced before this is said."""

    sha256: str
    media: str
    size: int
    role: str = "picture"


def complete(
    connection: Connection,
    job_id: str,
    fence: int,
    result: Mapping[str, Any],
    stored: Sequence[Stored],
    wall: float,
) -> Moved | None:
    """running -> complete, with what was made. Raises `Vanishing` for an artifact that is being
    deleted: it must be written once more."""
    # The event's data are what the result says of it, without bytes.
    done = move(
        connection, job_id, lambda j: machine.complete(j, fence), wall, result,
        result=dict(result), step=job.c.steps,
    )  # fmt: skip
    if done is not None:
        keep(connection, job_id, stored, wall)
    return done


class Vanishing(Exception):
    """An artifact was met that the sweeper is deleting."""


def keep(connection: Connection, job_id: str, stored: Sequence[Stored], wall: float) -> None:
    """Tie artifacts to a job."""
    for place, one in enumerate(stored):
        state = connection.scalar(_STATE, {"sha": one.sha256})
        if state == "deleting":
            raise Vanishing(one.sha256)
        if state is None:
            connection.execute(
                insert(artifact),
                {"sha256": one.sha256, "media": one.media, "size": one.size, "state": "live",
                 "created": wall},
            )  # fmt: skip
        connection.execute(
            insert(job_artifact),
            {"job_id": job_id, "role": one.role, "place": place, "sha256": one.sha256},
        )


def fail(
    connection: Connection, job_id: str, fence: int, code: str, detail: str, wall: float
) -> Moved | None:
    """running -> failed, or canceled where that was asked for."""
    said = {"detail": detail}
    return move(
        connection, job_id, lambda j: machine.fail(j, fence, code), wall, said, detail=detail
    )


def put_back(
    connection: Connection, job_id: str, fence: int, not_before: float, wall: float, *, refund: bool
) -> Moved | None:
    """running -> queued."""
    return move(
        connection, job_id, lambda j: machine.put_back(j, fence, not_before, refund=refund), wall
    )


def canceled(connection: Connection, job_id: str, fence: int, wall: float) -> Moved | None:
    """running -> canceled."""
    return move(connection, job_id, lambda j: machine.canceled(j, fence), wall)


def checkpointed(
    connection: Connection,
    job_id: str,
    fence: int,
    step: int,
    place: Mapping[str, Any],
    lease_until: float,
    wall: float,
) -> Moved | None:
    """There is a file to go on from."""
    return move(
        connection, job_id, lambda j: machine.checkpointed(j, fence, lease_until), wall,
        {"step": step}, step=step, checkpoint=dict(place),
    )  # fmt: skip


# --- what owners ask ------------------------------------------------------------------------------


def cancel(connection: Connection, job_id: str, wall: float) -> Moved | None:
    """Give a job up."""
    return _left(connection, move(connection, job_id, machine.cancel, wall))


def expire(connection: Connection, job_id: str, wall: float) -> Moved | None:
    """queued -> failed, where its time is over."""
    return _left(connection, move(connection, job_id, lambda j: machine.expire(j, wall), wall))


def hold(connection: Connection, job_id: str, held: bool, wall: float) -> Moved | None:
    """Let a queued job wait, or go."""
    return _left(connection, move(connection, job_id, lambda j: machine.hold(j, held), wall))


def _left(connection: Connection, moved: Moved | None) -> Moved | None:
    if moved is not None and moved.job.status != "running":
        fairness.close_ranks(connection, moved.owner)
    return moved


def pause(connection: Connection, name: str, paused: bool) -> None:
    """None of an owner's jobs is begun any more, until it is let go."""
    known_owner(connection, name)
    connection.execute(update(owner).where(owner.c.name == name).values(paused=paused))
    if not paused:
        fairness.close_ranks(connection, name)


def place_at(connection: Connection, job_id: str, index: int) -> bool:
    """Move a queued job to a place among its owner's own of its class; others lose nothing by it,
    since the owner's share stays the same. False where it is not queued."""
    row = connection.execute(_GET, {"job_id": job_id}).one_or_none()
    if row is None or row.status != "queued":
        return False
    fairness.reorder(connection, row._mapping, index)
    return True


# --- what the reaper asks -------------------------------------------------------------------------


def running(connection: Connection) -> Sequence[Row[Any]]:
    """Jobs that a worker has."""
    return connection.execute(_RUNNING).all()


def overdue(connection: Connection, steady: float, wall: float) -> Sequence[Row[Any]]:
    """Jobs whose lease or time is over."""
    late = connection.execute(_LATE, {"steady": steady}).all()
    return [*late, *connection.execute(_OLD, {"wall": wall})]
