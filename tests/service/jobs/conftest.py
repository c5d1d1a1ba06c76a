"""The stores that keep the contract: SQLite, and PostgreSQL where one is named."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from sqlalchemy import delete

from diptych.service.jobs.database import Database
from diptych.service.jobs.schema import metadata

POSTGRES = "DIPTYCH_TEST_POSTGRES"  # postgresql+psycopg://..., which is emptied


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    if request.param == "sqlite":
        found = Database.in_memory()
    elif POSTGRES in os.environ:
        found = Database.at(os.environ[POSTGRES])
        found.write_now(
            lambda c: [c.execute(delete(table)) for table in reversed(metadata.sorted_tables)]
        )
    else:
        pytest.skip(f"{POSTGRES} names no database")
    yield found
    found.close()
