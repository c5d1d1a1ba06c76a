"""How jobs come in: all of a request or none, durable before anybody is told of it."""

from __future__ import annotations

import hashlib
import logging
import math
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, update

from diptych.service.api import reads
from diptych.service.api.asking import Ask
from diptych.service.api.state import State
from diptych.service.guards import words
from diptych.service.guards.moderation import moderated
from diptych.service.guards.problem import Problem
from diptych.service.jobs import accepting, queries
from diptych.service.jobs.accepting import Accepted, Key, Wanted
from diptych.service.jobs.schema import job

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
# Built once: to put a statement together takes longer than to run it.
_ETA = update(job).where(job.c.id == bindparam("job_id")).values(eta=bindparam("told"))
_LOG = logging.getLogger("diptych.service")


@dataclass(frozen=True)
class Ticket:
    """A job that was accepted. `again`: by an earlier request with the same key."""

    job_id: str
    status: str
    eta: float
    cost: float
    seed: int | None
    again: bool = False

    def body(self) -> dict[str, Any]:
        """As it is told."""
        told: dict[str, Any] = {"job_id": self.job_id, "status": self.status}
        told |= {"eta_seconds": round(self.eta, 3), "engine_seconds": round(self.cost, 3)}
        return told if self.seed is None else {**told, "seed": self.seed}


async def admitted(ask: Ask, wanted: Sequence[Wanted], asked: Mapping[str, Any]) -> list[Ticket]:
    """Write the jobs, then tell the engine. `asked`: what the request says, which an
    Idempotency-Key stands for.

    Raises Problem: 422 key-reused, 503 queue-full, 507 disk-full.
    """
    key, wall = _key(ask, asked), time.time()
    room = has_room(ask.state)
    cost = sum(one.cost for one in wanted)

    def run(connection: Connection) -> tuple[Accepted, list[Ticket]]:
        known = key is not None and reads.key_is_known(connection, ask.owner, key.name)
        if not known:
            _check_room(ask.state, connection, ask.owner, cost, room)
        done = accepting.accept(connection, ask.owner, wanted, wall, key)
        return done, [_ticket(connection, job_id, done.again) for job_id in done.ids]

    done, tickets = await ask.state.database.write(run)
    if done.clash:
        detail = "Send a new key, or the request it stands for."
        raise Problem("key-reused", detail=detail, field="Idempotency-Key")
    for moved in done.moved:
        ask.state.hub.publish(moved)
    if done.moved:
        ask.state.engine.ring()
    return tickets


async def admitted_one(ask: Ask, wanted: Wanted, asked: Mapping[str, Any]) -> Ticket:
    """One job, as `admitted`."""
    return (await admitted(ask, [wanted], asked))[0]


def prompt_of(ask: Ask, text: str, field: str) -> str:
    """A prompt within its bounds that the operator lets through; "" stays "".

    Raises Problem: 422, 403 moderated.
    """
    if not text:
        return text
    seen = words.checked(text, field)
    try:
        return moderated(seen, ask.state.gate, field).raw
    except Problem:
        sha = hashlib.sha256(text.encode()).hexdigest()
        _LOG.warning("refused by the gate: prompt %s of %s", sha, ask.owner)
        raise


def _key(ask: Ask, asked: Mapping[str, Any]) -> Key | None:
    name = ask.request.headers.get("idempotency-key")
    if name is None:
        return None
    if not _KEY.fullmatch(name):
        detail = "Send up to 255 visible ASCII characters."
        raise Problem("bad-field", detail=detail, field="Idempotency-Key")
    return Key(name, accepting.canonical({"path": ask.request.url.path, "asked": dict(asked)}))


def has_room(state: State) -> bool:
    """Whether the disk has what must stay free."""
    settings = state.settings
    disk = shutil.disk_usage(settings.data)
    return disk.free >= max(settings.disk_bytes, settings.disk_share * disk.total)


def _check_room(state: State, connection: Connection, name: str, cost: float, room: bool) -> None:
    if not room:
        raise Problem("disk-full", detail="Delete pictures, or ask the operator for room.")
    settings = state.settings
    mosts = (settings.most_cost_each, settings.most_cost)
    for (_, waits), most in zip(queries.loads(connection, name), mosts, strict=True):
        # A job alone is always let in, however long it takes.
        if waits and waits + cost > most:
            eta = max(1, math.ceil(waits + cost - most))
            raise Problem(
                "queue-full",
                detail=f"Ask again in about {eta} s.",
                extra={"eta_seconds": eta},
                headers={"Retry-After": str(eta)},
            )


def _ticket(connection: Connection, job_id: str, again: bool) -> Ticket:
    row = reads.job_of(connection, job_id)
    if row is None:
        raise Problem("gone", detail="The job of this key was erased.", field="Idempotency-Key")
    eta = row.eta
    if row.status == "queued" and not again:
        eta = reads.etas(connection, [row])[job_id]
        connection.execute(_ETA, {"job_id": job_id, "told": eta})
    elif row.status != "queued" and not again:
        eta = 0.0
    return Ticket(job_id, row.status, eta, row.cost, row.spec.get("seed"), again)
