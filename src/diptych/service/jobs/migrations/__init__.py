"""How the tables came to be as they are: one step in `versions` for each change of the schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def upgrade(connection: Connection, to: str = "head") -> None:
    """Bring a database to today's form, in the caller's transaction: whole or not at all."""
    config = Config(attributes={"connection": connection})
    folder = str(Path(__file__).parent).replace("%", "%%")  # a value of an ini file
    config.set_main_option("script_location", folder)
    command.upgrade(config, to)
