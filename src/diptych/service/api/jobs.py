"""/v1/jobs and /v1/queue: a person's own jobs, and what they do with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, get_args

from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import Response

from diptych.service.api import marks, reads
from diptych.service.api.answers import mine, mine_in, told, told_one
from diptych.service.api.asking import Ask, Row, said
from diptych.service.api.shapes import DeletedShape, JobShape, JobsShape, QueueShape, Status
from diptych.service.guards.fields import Strict
from diptych.service.guards.problem import Problem
from diptych.service.jobs import store, tidying
from diptych.service.jobs.machine import TERMINAL
from diptych.service.jobs.store import Moved

MOST_LISTED = 200


class Listing(Strict):
    """`status`: one or more, with commas; `before`: the `next` of the page before."""

    status: Annotated[str, Field(max_length=60)] = ""
    before: Annotated[str, Field(max_length=36)] = ""
    limit: Annotated[str, Field(pattern="^[0-9]{1,3}$")] = "50"


class Place(Strict):
    index: Annotated[int, Field(ge=0, le=1 << 20)]


class Thumb(Strict):
    value: Annotated[int, Field(ge=-1, le=1)]


class Star(Strict):
    starred: bool


async def listed(ask: Ask) -> Response:
    """The newest first."""
    asked = ask.query(Listing)
    wanted = [one for one in asked.status.split(",") if one]
    if not set(wanted) <= set(get_args(Status)):
        detail = f"Choose of {', '.join(get_args(Status))}."
        raise Problem("bad-field", detail=detail, field="status")
    limit = int(asked.limit)
    if not 1 <= limit <= MOST_LISTED:
        raise Problem("bad-field", detail=f"Ask for 1 to {MOST_LISTED}.", field="limit")
    rows = ask.read(
        lambda c: reads.listed(c, ask.owner, status=wanted, before=asked.before, limit=limit)
    )
    following = rows[-1].id if len(rows) == limit else None
    return said({"jobs": told(ask, rows), "next": following})


async def one(ask: Ask) -> Response:
    """A job."""
    return said(told_one(ask, mine(ask, _id(ask))))


async def cancel(ask: Ask) -> Response:
    """At once while it is queued; one under way ends at its next step."""
    moved = await _changed(ask, lambda c, job_id: store.cancel(c, job_id, time.time()))
    row = mine(ask, _id(ask))
    if moved is None and (row.status in TERMINAL or not row.cancel_asked):
        raise _wrong(row.status, "A job that has ended stays as it is.")
    return said(told_one(ask, row), 202 if row.status == "running" else 200)


async def hold(ask: Ask) -> Response:
    """A queued job waits."""
    return await _held(ask, True)


async def release(ask: Ask) -> Response:
    """A held job goes on."""
    return await _held(ask, False)


async def _held(ask: Ask, held: bool) -> Response:
    await _changed(ask, lambda c, job_id: store.hold(c, job_id, held, time.time()))
    row = mine(ask, _id(ask))
    if row.status != "queued":
        raise _wrong(row.status, "Only a queued job can be held.")
    return said(told_one(ask, row))


async def place(ask: Ask) -> Response:
    """Move a queued job among one's own."""
    asked = await ask.body(Place)
    moved = await _written(ask, lambda c, job_id: store.place_at(c, job_id, asked.index))
    row = mine(ask, _id(ask))
    if not moved:
        raise _wrong(row.status, "Only a queued job can be moved.")
    return said(told_one(ask, row))


async def delete(ask: Ask) -> Response:
    """Hide it, and erase it when the time to undo is over."""
    wall = time.time()
    until = wall + ask.state.settings.undo
    moved = await _written(ask, lambda c, i: tidying.hide(c, i, wall, until))
    for one in moved or ():
        ask.state.hub.publish(one)
        ask.state.engine.ring()
    return said({"job_id": _id(ask), "undo_until": until})


async def undo(ask: Ask) -> Response:
    """Bring a deleted job back."""
    shown = await _written(ask, lambda c, i: tidying.unhide(c, i, time.time()), hidden=True)
    row = mine(ask, _id(ask))
    if not shown:
        raise _wrong(row.status, "The job is not deleted.")
    return said(told_one(ask, row))


async def thumb(ask: Ask) -> Response:
    """Say whether it is good."""
    asked = await ask.body(Thumb)
    wall = time.time()
    await _written(ask, lambda c, i: marks.rate(c, i, ask.owner, asked.value, wall))
    return said(told_one(ask, mine(ask, _id(ask))))


async def star(ask: Ask) -> Response:
    """Star it."""
    asked = await ask.body(Star)
    await _written(ask, lambda c, job_id: marks.star(c, job_id, asked.starred))
    return said(told_one(ask, mine(ask, _id(ask))))


async def queue(ask: Ask) -> Response:
    """One's own jobs under way and waiting, in their order."""
    rows, paused = ask.read(lambda c: (reads.waiting(c, ask.owner), reads.is_paused(c, ask.owner)))
    return said({"jobs": told(ask, rows), "paused": paused})


async def pause(ask: Ask) -> Response:
    """Begin none of one's own jobs any more."""
    await ask.state.database.write(lambda c: store.pause(c, ask.owner, True))
    return await queue(ask)


async def resume(ask: Ask) -> Response:
    """Begin them again."""
    await ask.state.database.write(lambda c: store.pause(c, ask.owner, False))
    ask.state.engine.ring()
    return await queue(ask)


def _id(ask: Ask) -> str:
    return str(ask.request.path_params["job_id"])


async def _written(ask: Ask, run: Callable[[Connection, str], Any], *, hidden: bool = False) -> Any:
    """Do it in one transaction with the check that the job is the asker's."""
    job_id = _id(ask)

    def both(connection: Connection) -> Any:
        mine_in(connection, ask.owner, job_id, hidden=hidden)
        return run(connection, job_id)

    return await ask.state.database.write(both)


async def _changed(ask: Ask, run: Callable[[Connection, str], Moved | None]) -> Moved | None:
    moved = await _written(ask, run)
    if moved is not None:
        ask.state.hub.publish(moved)
        ask.state.engine.ring()
    return moved


def _wrong(status: str, detail: str) -> Problem:
    return Problem("wrong-state", detail=detail, extra={"job_status": status})


def _on(verb: str, handler: Any, says: str, *also: int, takes: Any = None, method: str = "POST"):
    return Row(
        method=method, path=f"/v1/jobs/{{job_id}}/{verb}", handler=handler, says=says,
        takes=takes, gives=JobShape, statuses=(404, 410, *also),
    )  # fmt: skip


ROUTES = (
    Row(
        method="GET", path="/v1/jobs", handler=listed, says="List jobs", gives=JobsShape,
        query=Listing,
    ),
    Row(
        method="GET", path="/v1/jobs/{job_id}", handler=one, says="One job", gives=JobShape,
        statuses=(404, 410),
    ),
    Row(
        method="DELETE", path="/v1/jobs/{job_id}", handler=delete, says="Delete a job",
        gives=DeletedShape, statuses=(404, 410),
    ),
    _on("cancel", cancel, "Give a job up", 202, 409),
    _on("hold", hold, "Let a queued job wait", 409),
    _on("release", release, "Let a held job go on", 409),
    _on("move", place, "Move a queued job", 409, takes=Place),
    _on("undo", undo, "Undo a deletion", 409),
    _on("rating", thumb, "Rate a job", takes=Thumb, method="PUT"),
    _on("star", star, "Star a job", takes=Star, method="PUT"),
    Row(method="GET", path="/v1/queue", handler=queue, says="The queue", gives=QueueShape),
    Row(
        method="POST", path="/v1/queue/pause", handler=pause, says="Pause one's jobs",
        gives=QueueShape,
    ),
    Row(
        method="POST", path="/v1/queue/resume", handler=resume, says="Resume one's jobs",
        gives=QueueShape,
    ),
)  # fmt: skip
