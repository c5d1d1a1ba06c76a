"""Small things that are kept between jobs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select, update

from diptych.service.jobs.schema import fact, owner


def known_owner(connection: Connection, name: str) -> None:
    """The owner's row is there."""
    if connection.scalar(select(owner.c.name).where(owner.c.name == name)) is None:
        connection.execute(insert(owner), {"name": name, "weight": 1.0, "paused": False})


def get_fact(connection: Connection, name: str, otherwise: Any) -> Any:
    """A value that was put, or `otherwise`."""
    found = connection.execute(select(fact.c.value).where(fact.c.name == name)).one_or_none()
    return otherwise if found is None else found.value


def put_fact(connection: Connection, name: str, value: Any) -> None:
    """Keep a small value."""
    changed = connection.execute(update(fact).where(fact.c.name == name).values(value=value))
    if changed.rowcount == 0:
        connection.execute(insert(fact), {"name": name, "value": value})
