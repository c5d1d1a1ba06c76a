"""A job comes in: it is written, with its first event, before anybody is told of it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert, select

from diptych.service.jobs import fairness, machine, queries
from diptych.service.jobs.facts import known_owner
from diptych.service.jobs.machine import Job
from diptych.service.jobs.schema import event, idempotency, job
from diptych.service.jobs.store import Moved, Stored, keep, move

INTERACTIVE, USUAL, LARGE = 0, 1, 2  # classes: somebody waits; a picture; a batch
# Built once: to put a statement together takes longer than to run it.
_NEW_JOB, _FIRST = insert(job), insert(event)

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


@dataclass(frozen=True)
class Accepted:
    """Identifiers in the order of what was wanted. `again`: the key was known, these are the first
    request's; `clash`: the key was known for another request, and nothing was done."""

    ids: Sequence[str]
    moved: Sequence[Moved] = ()
    again: bool = False
    clash: bool = False


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
    if key is not None:
        known = _known(connection, name, key)
        if known is not None:
            return known
    known_owner(connection, name)
    ids = ids or sorted(new_id(wall) for _ in wanted)  # in their order also within a millisecond
    moved: list[Moved] = []
    for job_id, one in zip(ids, wanted, strict=True):
        moved += _one(connection, name, job_id, one, wall)
    if key is not None:
        connection.execute(
            insert(idempotency),
            {"owner": name, "key": key.name, "body_sha": key.body_sha, "answer": list(ids),
             "created": wall},
        )  # fmt: skip
    return Accepted(ids, moved)


def _known(connection: Connection, name: str, key: Key) -> Accepted | None:
    row = connection.execute(
        select(idempotency.c.body_sha, idempotency.c.answer).where(
            idempotency.c.owner == name, idempotency.c.key == key.name
        )
    ).one_or_none()
    if row is None:
        return None
    same = row.body_sha == key.body_sha
    return Accepted(row.answer if same else (), again=same, clash=not same)


def _one(
    connection: Connection, name: str, job_id: str, one: Wanted, wall: float
) -> list[Moved]:  # fmt: skip
    begun = Job(deadline=one.deadline)
    sha = canonical(one.spec)
    connection.execute(
        _NEW_JOB,
        {
            "id": job_id, "owner": name, "kind": one.kind, "class": one.rank,
            "vtime": fairness.begins(connection, name, one.rank), "cost": one.cost, **asdict(begun),
            "spec": dict(one.spec), "spec_sha": sha, "batch": one.batch, "step": 0,
            "steps": one.steps, "detail": "", "eta": one.eta, "starred": False, "created": wall,
        },
    )  # fmt: skip
    first = {"job_id": job_id, "seq": 1, "kind": "queued", "at": wall, "data": {}}
    connection.execute(_FIRST, first)
    keep(connection, job_id, one.inputs, wall)
    moved = [Moved(job_id, name, begun, 1, "queued", {})]
    if one.equal:
        moved += _from_before(connection, name, job_id, sha, one.equal, wall)
    return moved


def _from_before(
    connection: Connection, name: str, job_id: str, sha: str, fingerprint: str, wall: float
) -> list[Moved]:
    """An equal job of the same owner gave a picture, by the same weights and machine: it is this
    one's as well."""
    row = queries.equal(connection, name, sha, fingerprint)
    if row is None:
        return []
    result = {**row.result, "cached": True, "generation_time": 0.0}
    done = move(connection, job_id, machine.answered, wall, result, result=result)
    if done is None:
        return []
    made = [
        Stored(one.sha256, one.media, one.size, one.role)
        for one in queries.artifacts_of(connection, row.id)
        if one.role != "input"
    ]
    keep(connection, job_id, made, wall)
    return [done]


def forget_keys(connection: Connection, wall: float) -> None:
    """Keys of more than a day ago."""
    connection.execute(idempotency.delete().where(idempotency.c.created < wall - KEEP_KEYS))


def now() -> float:
    """The wall clock."""
    return time.time()
