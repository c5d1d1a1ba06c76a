"""GET /v1/jobs/{id}/events: what happens to a job, as server-sent events.

Events of the history carry their number as id, so a Last-Event-ID always names one of them; steps,
previews and pieces of text carry none, and are gone when they are missed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Row as Found
from starlette.responses import Response, StreamingResponse

from diptych.service.api import reads
from diptych.service.api.answers import mine
from diptych.service.api.asking import Ask, Row
from diptych.service.guards.problem import Problem
from diptych.service.jobs.machine import TERMINAL

HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
STREAM = "text/event-stream"


async def events(ask: Ask) -> Response:
    """Everything after Last-Event-ID; 204 to whoever has it all, since else a browser would come
    back for ever."""
    last = _last(ask)
    row = mine(ask, str(ask.request.path_params["job_id"]))
    if row.status in TERMINAL and last >= row.rev:
        return Response(status_code=204)
    return StreamingResponse(_stream(ask, row.id, last), headers=HEADERS, media_type=STREAM)


def _last(ask: Ask) -> int:
    text = ask.request.headers.get("last-event-id", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise Problem("bad-field", detail="Send the id of an event.", field="Last-Event-ID")
    return int(text)


async def _stream(ask: Ask, job_id: str, last: int) -> AsyncIterator[str]:
    with ask.state.hub.subscribe(job_id) as listener:
        while True:
            pieces, moved = listener.taken()  # before the read: they happened before its last event
            for found in _after(ask, job_id, last) if moved else ():
                last = found.seq
                yield said(found.kind, {"at": found.at, **found.data}, last)
                if found.kind in TERMINAL:
                    return
            for piece in pieces:
                yield said(piece.kind, piece.data)
            if not await listener.rung(ask.state.settings.heartbeat):
                yield ": still here\n\n"
                if ask.read(lambda c: reads.job_of(c, job_id)) is None:
                    return  # it was erased


def _after(ask: Ask, job_id: str, last: int) -> Sequence[Found[Any]]:
    return ask.read(lambda c: reads.events_after(c, job_id, last))


def said(kind: str, data: Mapping[str, Any], seq: int | None = None) -> str:
    """One event."""
    head = f"id: {seq}\n" if seq is not None else ""
    return f"{head}event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


ROUTES = (
    Row(
        method="GET", path="/v1/jobs/{job_id}/events", handler=events, says="Follow a job",
        headers=("Last-Event-ID",), kinds=(STREAM,), statuses=(204, 404, 410),
    ),
)  # fmt: skip
