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

from sqlalchemy import Connection, and_, case, func, insert, select, update

from diptych.service.jobs.facts import get_fact, put_fact
from diptych.service.jobs.schema import job, owner, share

LEAST = 1e-6  # keeps the order of jobs that cost nothing


def begins(connection: Connection, name: str, rank: int) -> float:
    """The virtual time of an owner's next job of a class."""
    last = connection.execute(
        select(job.c.vtime, job.c.cost)
        .where(job.c.owner == name, job.c["class"] == rank, job.c.status == "queued")
        .order_by(job.c.vtime.desc())
        .limit(1)
    ).one_or_none()
    ends = 0.0 if last is None else last.vtime + _span(connection, name, last.cost)
    return max(ends, _paid_until(connection, name, rank))


def begun(connection: Connection, row: Mapping[Any, Any]) -> None:
    """A job was claimed: the clock goes on, and its owner pays, for the first time only."""
    rank, name, vtime = row["class"], row["owner"], row["vtime"]
    now = get_fact(connection, f"vtime:{rank}", 0.0)
    if vtime > now:
        put_fact(connection, f"vtime:{rank}", vtime)
    if row["fence"] == 0:
        last = vtime + _span(connection, name, row["cost"])
        mine = and_(share.c.owner == name, share.c["class"] == rank)
        later = case((share.c.last > last, share.c.last), else_=last)
        changed = connection.execute(update(share).where(mine).values(last=later))
        if changed.rowcount == 0:
            connection.execute(insert(share), {"owner": name, "class": rank, "last": last})


def close_ranks(connection: Connection, name: str) -> None:
    """An owner's jobs follow one another from now on: one has left the queue, or may go again."""
    ranks = select(job.c["class"]).where(job.c.owner == name, job.c.status == "queued").distinct()
    for rank in connection.scalars(ranks).all():
        _close(connection, name, rank)


def reorder(connection: Connection, row: Mapping[Any, Any], index: int) -> None:
    """A queued job goes to a place among its owner's own of its class."""
    name, rank = row["owner"], row["class"]
    mine = connection.scalars(
        select(job.c.id)
        .where(job.c.owner == name, job.c["class"] == rank, job.c.status == "queued")
        .order_by(job.c.vtime, job.c.created, job.c.id)
    ).all()
    order = [one for one in mine if one != row["id"]]
    order.insert(max(0, min(index, len(order))), row["id"])
    for place, one in enumerate(order):
        connection.execute(update(job).where(job.c.id == one).values(vtime=float(place)))
    _close(connection, name, rank)


def _close(connection: Connection, name: str, rank: int) -> None:
    start = _paid_until(connection, name, rank)
    # A job that is held lets its owner's others go first; one that was claimed before is paid for.
    costs = case((job.c.held | (job.c.fence > 0), 0.0), else_=job.c.cost)
    span = costs / _weight(connection, name) + LEAST
    before = func.sum(span).over(order_by=(job.c.vtime, job.c.created, job.c.id), rows=(None, -1))
    placed = (
        select(job.c.id, (start + func.coalesce(before, 0.0)).label("at"))
        .where(job.c.owner == name, job.c["class"] == rank, job.c.status == "queued")
        .subquery()
    )
    connection.execute(
        update(job)
        .where(job.c.id == placed.c.id, job.c.vtime != placed.c["at"])
        .values(vtime=placed.c["at"])
    )


def _paid_until(connection: Connection, name: str, rank: int) -> float:
    last = connection.scalar(
        select(share.c.last).where(share.c.owner == name, share.c["class"] == rank)
    )
    return max(last or 0.0, get_fact(connection, f"vtime:{rank}", 0.0))


def _weight(connection: Connection, name: str) -> float:
    return connection.scalar(select(owner.c.weight).where(owner.c.name == name)) or 1.0


def _span(connection: Connection, name: str, cost: float) -> float:
    return cost / _weight(connection, name) + LEAST
