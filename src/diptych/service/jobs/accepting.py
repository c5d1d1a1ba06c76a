"""A job comes in: it is written, with its first event, before anybody is told of it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, insert, select

from diptych.service.jobs import machine, queries
from diptych.service.jobs.machine import Job
from diptych.service.jobs.queries import Place
from diptych.service.jobs.schema import event, idempotency, job
from diptych.service.jobs.standing import Standing
from diptych.service.jobs.store import Moved, Stored, keep, move

INTERACTIVE, USUAL, LARGE = 0, 1, 2  # classes: somebody waits; a picture; a batch
# Built once: to put a statement together takes longer than to run it.
_NEW_JOB, _FIRST, _NEW_KEY = insert(job), insert(event), insert(idempotency)
_KNOWN = select(idempotency.c.body_sha, idempotency.c.answer).where(
    idempotency.c.owner == bindparam("who"), idempotency.c.key == bindparam("what")
)

_BEGUN = asdict(Job())

KEEP_KEYS = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A job that is asked for. `cost`: predicted seconds of the engine; `inputs`: artifacts that it
    reads; `equal`: an equal request's picture may be given (its seed was said)."""

    kind: str
    spec: Mapping[str, Any]
    cost: float
    rank: int = USUAL
    steps: int = 0
    inputs: Sequence[Stored] = ()
    equal: str = ""
    batch: str = ""
    deadline: float = 0.0
    eta: float = 0.0


@dataclass(frozen=True)
class Key:
    """An Idempotency-Key, and the SHA-256 of the request that came with it."""

    name: str
    body_sha: str


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request of one owner: jobs of which all are accepted or none. `most`: predicted seconds
    that may wait, of this owner and of all."""

    owner: str
    wanted: Sequence[Wanted]
    wall: float
    key: Key | None = None
    ids: Sequence[str] = ()
    most: tuple[float, float] = (math.inf, math.inf)


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """Identifiers and predicted seconds in the order of what was wanted. `again`: the key was
    known, these are the first request's; `clash`: the key was known for another request, and
    nothing was done; `over`: by so many seconds the queue is too full, and nothing was done."""

    ids: Sequence[str] = ()
    etas: Sequence[float] = ()
    moved: Sequence[Moved] = ()
    again: bool = False
    clash: bool = False
    over: float = 0.0


def new_id(wall: float) -> str:
    """UUID version 7: by time (RFC 9562, section 5.7)."""
    millis = int(wall * 1000) & (1 << 48) - 1
    rest = int.from_bytes(os.urandom(10), "big")
    high, low = rest >> 68, rest & (1 << 62) - 1
    return str(UUID(int=millis << 80 | 7 << 76 | high << 64 | 2 << 62 | low))


def canonical(spec: Mapping[str, Any]) -> str:
    """The SHA-256 of what a request says, whatever the order it says it in."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()


def accept(
    connection: Connection,
    name: str,
    wanted: Sequence[Wanted],
    wall: float,
    key: Key | None = None,
    ids: Sequence[str] = (),
) -> Accepted:
    """Write jobs of one owner, all or none."""
    asked = Asked(owner=name, wanted=wanted, wall=wall, key=key, ids=ids)
    return accept_all(connection, [asked])[0]


def accept_all(connection: Connection, asked: Sequence[Asked]) -> list[Accepted]:
    """Write what is asked for in requests that share a transaction, in their order."""
    standing = Standing.read(connection)
    made: list[_Made] = []
    done = [_one(connection, standing, one, made) for one in asked]
    if made:
        connection.execute(_NEW_JOB, [one.row for one in made])
        connection.execute(_FIRST, [_first_of(one.row) for one in made])
    answers = {one.row["id"]: _followed(connection, one) for one in made}
    return [_with_answers(one, answers) for one in done]


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A new job's row, what it reads, and an equal one that was done before."""

    row: Mapping[str, Any]
    inputs: Sequence[Stored]
    before: Any | None


def _one(
    connection: Connection, standing: Standing, asked: Asked, made: list[_Made]
) -> Accepted:  # fmt: skip
    """A request's jobs, added to those that will be written."""
    if asked.key is not None:
        known = _known(connection, asked.owner, asked.key)
        if known is not None:
            return known
    if over := _over(standing, asked):
        return Accepted(over=over)
    # In their order also within a millisecond.
    ids = asked.ids or sorted(new_id(asked.wall) for _ in asked.wanted)
    if asked.key is not None:
        connection.execute(
            _NEW_KEY,
            {"owner": asked.owner, "key": asked.key.name, "body_sha": asked.key.body_sha,
             "answer": list(ids), "created": asked.wall},
        )  # fmt: skip
    jobs = [
        _job(connection, standing, asked, job_id, one)
        for job_id, one in zip(ids, asked.wanted, strict=True)
    ]
    made += jobs
    begun = [Moved(i, asked.owner, Job(deadline=one.deadline), 1, "queued", {})
             for i, one in zip(ids, asked.wanted, strict=True)]  # fmt: skip
    return Accepted(ids=ids, etas=[one.row["eta"] for one in jobs], moved=begun)


def _job(
    connection: Connection, standing: Standing, asked: Asked, job_id: str, one: Wanted
) -> _Made:  # fmt: skip
    sha, name = canonical(one.spec), asked.owner
    before = queries.equal(connection, name, sha, one.equal) if one.equal else None
    place = Place(one.rank, standing.end(name, one.rank), asked.wall, job_id)
    # What is answered at once takes no place in the queue.
    eta = standing.joined(name, place, one.cost) if before is None else 0.0
    row = {
        "id": job_id, "owner": name, "kind": one.kind, "class": one.rank, "vtime": place.vtime,
        "cost": one.cost, **_BEGUN, "deadline": one.deadline, "spec": dict(one.spec),
        "spec_sha": sha, "batch": one.batch, "step": 0, "steps": one.steps, "detail": "",
        "eta": eta, "starred": False, "created": asked.wall,
    }  # fmt: skip
    return _Made(row=row, inputs=one.inputs, before=before)


def _over(standing: Standing, asked: Asked) -> float:
    """By how many predicted seconds too much would wait; 0 where there is room."""
    cost = sum(one.cost for one in asked.wanted)
    for (_, waits), most in zip(standing.load(asked.owner), asked.most, strict=True):
        # A job alone is always let in, however long it takes.
        if waits and waits + cost > most:
            return waits + cost - most
    return 0.0


def _known(connection: Connection, name: str, key: Key) -> Accepted | None:
    row = connection.execute(_KNOWN, {"who": name, "what": key.name}).one_or_none()
    if row is None:
        return None
    same = row.body_sha == key.body_sha
    return Accepted(ids=row.answer if same else (), again=same, clash=not same)


def _first_of(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"job_id": row["id"], "seq": 1, "kind": "queued", "at": row["created"], "data": {}}


def _followed(connection: Connection, made: _Made) -> Moved | None:
    """What comes behind the row of a new job: what it reads, and a picture from before."""
    job_id, wall, before = made.row["id"], made.row["created"], made.before
    keep(connection, job_id, made.inputs, wall)
    if before is None:
        return None
    result = {**before.result, "cached": True, "generation_time": 0.0}
    done = move(connection, job_id, machine.answered, wall, result, result=result)
    given = [
        Stored(one.sha256, one.media, one.size, one.role)
        for one in queries.artifacts_of(connection, before.id)
        if one.role != "input"
    ]
    keep(connection, job_id, given, wall)
    return done


def _with_answers(done: Accepted, answers: Mapping[str, Moved | None]) -> Accepted:
    given = [answer for moved in done.moved if (answer := answers[moved.id]) is not None]
    return replace(done, moved=[*done.moved, *given]) if given else done


def forget_keys(connection: Connection, wall: float) -> None:
    """Keys of more than a day ago."""
    connection.execute(idempotency.delete().where(idempotency.c.created < wall - KEEP_KEYS))


def now() -> float:
    """The wall clock."""
    return time.time()
