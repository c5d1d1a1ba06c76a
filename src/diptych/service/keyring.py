"""The keys that a server knows: made, listed, revoked. Their texts are shown once, kept nowhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from diptych.foundation.errors import unknown
from diptych.service.guards.keys import Role, new_key
from diptych.service.jobs.schema import api_key


def add(connection: Connection, owner: str, role: Role) -> str:
    """A key for an owner; its text."""
    text, key = new_key(owner, role)
    connection.execute(
        insert(api_key),
        {"id": key.prefix, "sha256": key.sha256, "owner": owner, "role": role,
         "created": time.time(), "revoked": None},
    )  # fmt: skip
    return text


def listed(connection: Connection) -> Sequence[Row[Any]]:
    """All keys, the oldest first, those that were revoked among them."""
    return connection.execute(select(api_key).order_by(api_key.c.created)).all()


def revoke(connection: Connection, prefix: str) -> None:
    """A key is known no more. Raises NotFound."""
    mine = api_key.c.id == prefix, api_key.c.revoked.is_(None)
    if connection.execute(update(api_key).where(*mine).values(revoked=time.time())).rowcount == 0:
        held = [row.id for row in listed(connection) if row.revoked is None]
        raise unknown("key", prefix, held, see="See `diptych keys list`.")


def any_left(connection: Connection) -> bool:
    """Whether somebody could sign in."""
    asked = select(api_key.c.id).where(api_key.c.revoked.is_(None)).limit(1)
    return connection.scalar(asked) is not None
