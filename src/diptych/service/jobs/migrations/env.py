"""Alembic runs this file for each command; the connection comes from `upgrade`."""

from __future__ import annotations

from alembic import context

from diptych.service.jobs.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,  # the transaction is the caller's
)
context.run_migrations()
