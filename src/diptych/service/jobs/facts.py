"""Small things that are kept between jobs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from diptych.service.jobs.schema import fact, owner

# Built once: to put a statement together takes longer than to run it.
_OWNER = select(owner.c.name).where(owner.c.name == bindparam("who"))
_NEW_OWNER = insert(owner)
_GET = select(fact.c.value).where(fact.c.name == bindparam("what"))
_PUT = update(fact).where(fact.c.name == bindparam("what")).values(value=bindparam("new"))
_NEW = insert(fact)


def known_owner(connection: Connection, name: str) -> None:
    """The owner's row is there."""
    if connection.scalar(_OWNER, {"who": name}) is None:
        connection.execute(_NEW_OWNER, {"name": name, "weight": 1.0, "paused": False})


def get_fact(connection: Connection, name: str, otherwise: Any) -> Any:
    """A value that was put, or `otherwise`."""
    found = connection.execute(_GET, {"what": name}).one_or_none()
    return otherwise if found is None else found.value


def put_fact(connection: Connection, name: str, value: Any) -> None:
    """Keep a small value."""
    if connection.execute(_PUT, {"what": name, "new": value}).rowcount == 0:
        connection.execute(_NEW, {"name": name, "value": value})
