"""Connections to SQLite, as one writer and many readers need them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, QueuePool, StaticPool, create_engine, event

from diptych.foundation.errors import InvalidValue

OLDEST_SQLITE = (3, 35, 0)  # UPDATE ... FROM, window functions, RETURNING

WRITER = (
    "PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA foreign_keys=ON",
    "PRAGMA mmap_size=0", "PRAGMA busy_timeout=5000",
)  # fmt: skip
_MANY: dict[str, Any] = {"poolclass": QueuePool, "pool_size": 8, "max_overflow": 32}
READER = ("PRAGMA query_only=ON", "PRAGMA mmap_size=0", "PRAGMA busy_timeout=5000")


def connected(file: str, pragmas: Sequence[str]) -> Engine:
    """Connections to a file or address of SQLite, each with these pragmas; that of `WRITER` is the
    only one of its kind."""
    alone = pragmas is WRITER

    def connect() -> sqlite3.Connection:
        # Python's driver begins transactions by guess; ours are begun by the event below.
        connection = sqlite3.connect(
            file, uri=file.startswith("file:"), isolation_level=None, check_same_thread=False
        )
        for pragma in pragmas:
            connection.execute(pragma).close()
        return connection

    engine = create_engine(
        "sqlite://", creator=connect, **({"poolclass": StaticPool} if alone else _MANY)
    )

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if alone else "BEGIN")

    event.listen(engine, "begin", begin)
    return engine


def sqlite_notice() -> str:
    """What `doctor` says of the SQLite that Python has. Raises InvalidValue when it is too old."""
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise InvalidValue(
            f"SQLite {version} is too old.", do="Use a Python with SQLite 3.35 or newer."
        )
    if sqlite3.sqlite_version_info < (3, 51, 3):
        return f"SQLite {version}: its WAL-reset bug is avoided, only one connection writes."
    return f"SQLite {version}"
