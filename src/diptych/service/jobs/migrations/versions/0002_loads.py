"""The index of an owner's waiting jobs holds all that is summed at each acceptance."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_QUEUED = sa.text("status = 'queued'")


def upgrade() -> None:
    op.drop_index("job_mine", table_name="job")
    op.create_index(
        "job_mine", "job", ["owner", "class", "vtime", "cost", "held", "erase_at", "status"],
        sqlite_where=_QUEUED, postgresql_where=_QUEUED,
    )  # fmt: skip
