"""How jobs come in: all of a request or none, durable before anybody is told of it."""

from __future__ import annotations

import hashlib
import math
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from diptych.service import traces
from diptych.service.api import reads
from diptych.service.api.asking import Ask
from diptych.service.api.state import State
from diptych.service.guards import words
from diptych.service.guards.moderation import moderated
from diptych.service.guards.problem import Problem
from diptych.service.jobs import accepting
from diptych.service.jobs.accepting import Accepted, Asked, Key, Wanted
from diptych.service.logs import LOG

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True)
class Ticket:
    """A job that was accepted. `late`: times its ETA, four of five jobs are done; `again`: by an
    earlier request with the same key."""

    job_id: str
    status: str
    eta: float
    cost: float
    seed: int | None
    late: float = 1.0
    again: bool = False

    def body(self) -> dict[str, Any]:
        """As it is told."""
        told: dict[str, Any] = {"job_id": self.job_id, "status": self.status}
        told |= {"eta_seconds": round(self.eta, 3), "engine_seconds": round(self.cost, 3)}
        told["eta_p80_seconds"] = round(self.eta * self.late, 3)
        return told if self.seed is None else {**told, "seed": self.seed}


async def admitted(
    ask: Ask, wanted: Sequence[Wanted], asked: Mapping[str, Any] | None
) -> list[Ticket]:
    """Write the jobs, then tell the engine. `asked`: what the request says, which an
    Idempotency-Key stands for; None where the key stands for what comes after these.

    Raises Problem: 422 key-reused, 503 queue-full, 507 disk-full.
    """
    key, state = None if asked is None else _key(ask, asked), ask.state
    settings = state.settings
    if not has_room(state) and not _is_known(ask, key):
        raise Problem("disk-full", detail="Delete pictures, or ask the operator for room.")
    request = Asked(
        owner=ask.owner, wanted=wanted, wall=time.time(), key=key,
        most=(settings.most_cost_each, settings.most_cost),
    )  # fmt: skip
    done = await state.database.write_each(accepting.accept_all, request)
    if done.clash:
        detail = "Send a new key, or the request it stands for."
        raise Problem("key-reused", detail=detail, field="Idempotency-Key")
    if done.over:
        raise _full(done.over)
    if done.again:
        late = state.engine.late
        return ask.read(lambda c: [_before(c, job_id, late) for job_id in done.ids])
    here = traces.current()
    for moved in done.moved:
        state.hub.traced(moved.id, here)
        state.hub.publish(moved)
    state.engine.ring()
    tickets = _tickets(wanted, done, state.engine.late)
    for one, ticket in zip(wanted, tickets, strict=True):
        if ticket.status == "complete":
            state.figures.cached.labels(one.kind).inc()
    return tickets


async def admitted_one(ask: Ask, wanted: Wanted, asked: Mapping[str, Any] | None) -> Ticket:
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
        LOG.warning("refused by the gate", extra={"prompt_sha256": sha, "owner": ask.owner})
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


def _is_known(ask: Ask, key: Key | None) -> bool:
    return key is not None and ask.read(lambda c: reads.key_is_known(c, ask.owner, key.name))


def _full(over: float) -> Problem:
    eta = max(1, math.ceil(over))
    return Problem(
        "queue-full",
        detail=f"Ask again in about {eta} s.",
        extra={"eta_seconds": eta},
        headers={"Retry-After": str(eta)},
    )


def _tickets(wanted: Sequence[Wanted], done: Accepted, late: float) -> list[Ticket]:
    status = {moved.id: moved.job.status for moved in done.moved}
    return [
        Ticket(job_id, status[job_id], eta, one.cost, one.spec.get("seed"), late)
        for job_id, eta, one in zip(done.ids, done.etas, wanted, strict=True)
    ]


def _before(connection: Connection, job_id: str, late: float) -> Ticket:
    """Of an earlier request with the same key."""
    row = reads.job_of(connection, job_id)
    if row is None:
        raise Problem("gone", detail="The job of this key was erased.", field="Idempotency-Key")
    return Ticket(job_id, row.status, row.eta, row.cost, row.spec.get("seed"), late, again=True)
