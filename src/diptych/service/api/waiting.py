"""For answers that wait: a job like all others, followed until it has ended."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import Row as Found

from diptych.service.api import reads
from diptych.service.api.asking import Ask
from diptych.service.api.hub import Live
from diptych.service.guards.problem import PROBLEMS, Problem
from diptych.service.jobs.machine import TERMINAL

_LOOK = 2.0  # seconds: a bell that was lost costs so much


async def following(ask: Ask, job_id: str) -> AsyncIterator[Live | Found[Any]]:
    """What happens live, and the row of the job when it has ended, as the last.

    Raises Problem: 504 not-ready with the id after `longest_wait`, 410 gone.
    """
    end = time.monotonic() + ask.state.settings.longest_wait
    with ask.state.hub.subscribe(job_id) as listener:
        while True:
            pieces, moved = listener.taken()
            row = _row(ask, job_id) if moved else None
            for piece in () if listener.lost else pieces:
                yield piece
            if row is not None and row.status in TERMINAL:
                yield row
                return
            left = end - time.monotonic()
            if left <= 0:
                raise Problem(
                    "not-ready",
                    detail="It goes on. Ask for the job at GET /v1/jobs/{job_id}.",
                    extra={"job_id": job_id},
                    headers={"Location": f"/v1/jobs/{job_id}"},
                )
            await listener.rung(min(left, _LOOK))


def _row(ask: Ask, job_id: str) -> Found[Any]:
    row = ask.read(lambda c: reads.job_of(c, job_id))
    if row is None:
        raise Problem("gone", detail="The job was erased.")
    return row


async def ended(ask: Ask, job_id: str) -> Found[Any]:
    """The row of a job that is complete. Raises Problem as `following`, and as `well`."""
    row = None
    async for one in following(ask, job_id):
        row = one
    assert row is not None and not isinstance(row, Live)
    return well(row)


def well(row: Found[Any]) -> Found[Any]:
    """The row itself, of a job that is complete. Raises Problem for another end."""
    if row.status == "complete":
        return row
    extra = {"job_id": row.id, "job_status": row.status}
    if row.status == "canceled":
        raise Problem("wrong-state", detail="The job was canceled.", extra=extra)
    slug = row.error if row.error in PROBLEMS else "internal"
    detail = row.detail or "The job did not end well. Ask for it again."
    raise Problem(slug, detail=detail, extra={**extra, "code": row.error})
