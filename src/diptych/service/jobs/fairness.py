"""Start-time fair queueing (Goyal et al., 1996): who has little under way goes before who has much.

A job begins, in virtual time, where its owner's one before ends, or now; now is when the job that
was claimed last begins. The least goes first. So no owner is scanned for, and an owner with one job
waits for at most one job of each other of its weight.

An owner pays for a job when it is claimed, not when it is accepted. What leaves the queue unclaimed
costs nothing, and the owner's other jobs close ranks; and who let a job lie for an hour has not
saved up an hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Float, and_, bindparam, case, func, insert, select, update

from diptych.service.jobs.facts import get_fact, put_fact
from diptych.service.jobs.schema import QUEUED, job, owner, share

LEAST = 1e-6  # keeps the order of jobs that cost nothing


_MINE = and_(
    job.c.owner == bindparam("who"),
    job.c["class"] == bindparam("rank"),
    QUEUED,
)
_LAST = (
    select(job.c.vtime, job.c.cost, job.c.held)
    .where(_MINE, job.c.fence == 0)  # the others are paid for
    .order_by(job.c.vtime.desc())
    .limit(1)
)
_RANKS = select(job.c["class"]).where(job.c.owner == bindparam("who"), QUEUED).distinct()
_IN_ORDER = select(job.c.id).where(_MINE).order_by(job.c.vtime, job.c.created, job.c.id)
_PUT_AT = update(job).where(job.c.id == bindparam("this")).values(vtime=bindparam("at"))
_WEIGHT = select(owner.c.weight).where(owner.c.name == bindparam("who"))

_SHARE = and_(share.c.owner == bindparam("who"), share.c["class"] == bindparam("rank"))
_PAID = select(share.c.last).where(_SHARE)
_PAY = update(share).where(_SHARE).values(last=bindparam("until"))
_PAY_FIRST = insert(share)


def _in_a_row() -> Any:
    """The virtual times of an owner's jobs when they follow one another."""
    # A job that is held lets its owner's others go first; one that was claimed before is paid for.
    costs = case((job.c.held | (job.c.fence > 0), 0.0), else_=job.c.cost)
    span = costs / bindparam("weight", type_=Float) + LEAST
    before = func.sum(span).over(order_by=(job.c.vtime, job.c.created, job.c.id), rows=(None, -1))
    begin = bindparam("start", type_=Float) + func.coalesce(before, 0.0)
    placed = select(job.c.id, begin.label("at")).where(_MINE).subquery()
    moved = job.c.id == placed.c.id, job.c.vtime != placed.c["at"]
    return update(job).where(*moved).values(vtime=placed.c["at"])


_CLOSE = _in_a_row()


def begins(connection: Connection, name: str, rank: int) -> float:
    """The virtual time of an owner's next job of a class."""
    last = connection.execute(_LAST, {"who": name, "rank": rank}).one_or_none()
    ends = 0.0
    if last is not None:
        ends = last.vtime + span(0.0 if last.held else last.cost, weight(connection, name))
    return max(ends, _paid_until(connection, name, rank))


def begun(connection: Connection, row: Mapping[Any, Any]) -> None:
    """A job was claimed: the clock goes on, and its owner pays, for the first time only."""
    rank, name, vtime = row["class"], row["owner"], row["vtime"]
    if vtime > _now(connection, rank):
        put_fact(connection, f"vtime:{rank}", vtime)
    if row["fence"] > 0:
        return
    mine = {"who": name, "rank": rank}
    until = vtime + span(row["cost"], weight(connection, name))
    paid = connection.scalar(_PAID, mine)
    if paid is None:
        connection.execute(_PAY_FIRST, {"owner": name, "class": rank, "last": until})
    elif until > paid:
        connection.execute(_PAY, {**mine, "until": until})


def close_ranks(connection: Connection, name: str) -> None:
    """An owner's jobs follow one another from now on: one has left the queue, or may go again."""
    for rank in connection.scalars(_RANKS, {"who": name}).all():
        _close(connection, name, rank)


def reorder(connection: Connection, row: Mapping[Any, Any], index: int) -> None:
    """A queued job goes to a place among its owner's own of its class."""
    name, rank = row["owner"], row["class"]
    mine = connection.scalars(_IN_ORDER, {"who": name, "rank": rank}).all()
    order = [one for one in mine if one != row["id"]]
    order.insert(max(0, min(index, len(order))), row["id"])
    connection.execute(
        _PUT_AT, [{"this": one, "at": float(place)} for place, one in enumerate(order)]
    )
    _close(connection, name, rank)


def _close(connection: Connection, name: str, rank: int) -> None:
    placed = {"start": _paid_until(connection, name, rank), "weight": weight(connection, name)}
    connection.execute(_CLOSE, {"who": name, "rank": rank, **placed})


def _paid_until(connection: Connection, name: str, rank: int) -> float:
    paid = connection.scalar(_PAID, {"who": name, "rank": rank})
    return max(paid or 0.0, _now(connection, rank))


def _now(connection: Connection, rank: int) -> float:
    return get_fact(connection, f"vtime:{rank}", 0.0)


def weight(connection: Connection, name: str) -> float:
    """An owner's share of the engine beside others'."""
    return connection.scalar(_WEIGHT, {"who": name}) or 1.0


def span(cost: float, share_of: float) -> float:
    """How long a job is in virtual time."""
    return cost / share_of + LEAST
