"""A job as it is told to its owner."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy import Row as Found

from diptych.service.api import reads
from diptych.service.api.asking import Ask
from diptych.service.guards import signing
from diptych.service.guards.problem import Problem

_DETAIL = "The job did not end well. Ask for it again."


def mine(ask: Ask, job_id: str) -> Found[Any]:
    """The job of an address. Raises Problem: 404 for a stranger's as for none, 410 for one that
    was deleted or erased."""
    return ask.read(lambda connection: mine_in(connection, ask.owner, job_id))


def mine_in(connection: Connection, owner: str, job_id: str, *, hidden: bool = False) -> Found[Any]:
    """As `mine`, within a transaction. `hidden`: one that is being deleted is given, too."""
    row = reads.job_of(connection, job_id)
    if row is not None and row.owner == owner and (hidden or row.erase_at is None):
        return row
    grave = row if row is not None else reads.tombstone_of(connection, job_id)
    if grave is not None and grave.owner == owner:
        raise Problem("gone", detail="The job was deleted or has expired.")
    raise Problem("not-found", detail="You have no job of this id.")


def picture_url(ask: Ask, sha256: str) -> str:
    """A signed address that stays the same for a while, so that browsers keep the picture."""
    each = ask.state.settings.picture_seconds
    expires = (math.floor(time.time() / each) + 2) * each
    return ask.base + signing.signed(f"/v1/pictures/{sha256}", ask.state.secret, expires=expires)


def told(ask: Ask, rows: Sequence[Found[Any]]) -> list[dict[str, Any]]:
    """Jobs with what belongs to them, in a few queries for all."""
    ids = [row.id for row in rows]
    made, thumbs, etas = ask.read(
        lambda c: (
            reads.made_by(c, ids),
            reads.ratings_of(c, ids),
            reads.etas(c, rows),
        )
    )
    late = ask.state.engine.late
    return [
        _told(ask, row, made.get(row.id, ()), thumbs.get(row.id, 0), etas.get(row.id), late)
        for row in rows
    ]


def told_one(ask: Ask, row: Found[Any]) -> dict[str, Any]:
    """One job."""
    return told(ask, [row])[0]


def _told(
    ask: Ask,
    row: Found[Any],
    made: Sequence[Found[Any]],
    rating: int,
    eta: float | None,
    late: float,
) -> dict[str, Any]:
    pictures = [one.sha256 for one in made if one.role == "picture"]
    result: Mapping[str, Any] | None = row.result
    if row.status == "running":
        eta = row.cost * max(0.0, 1 - row.step / max(row.steps, 1))
    failed = {"code": row.error, "detail": row.detail or _DETAIL} if row.error else None
    return {
        "job_id": row.id, "kind": row.kind, "status": row.status,
        "model": row.spec.get("model", ""), "batch_id": row.batch or None,
        "created_at": row.created, "started_at": row.started, "ended_at": row.ended,
        "step": row.step, "steps": row.steps, "held": row.held,
        "cancel_asked": row.cancel_asked, "starred": row.starred, "rating": rating,
        "request": {k: v for k, v in row.spec.items() if k not in ("kind", "model")},
        "eta_seconds": None if eta is None else round(eta, 3),
        "eta_p80_seconds": None if eta is None else round(eta * late, 3),
        "image_url": picture_url(ask, pictures[0]) if pictures else None,
        "generation_time": (result or {}).get("generation_time"),
        "result": dict(result) if result is not None else None,
        "error": failed,
    }  # fmt: skip
