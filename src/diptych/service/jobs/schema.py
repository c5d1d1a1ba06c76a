"""The tables. What they hold is said in `docs/service.md`; a change here needs a migration."""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    literal_column,
    text,
)
from sqlalchemy import event as hook

metadata = MetaData()

# The last guard, whatever the code above it does: a job that has ended stays as it ended, and its
# numbers only grow.
_WRONG = """(OLD.status IN ('complete', 'failed', 'canceled') AND NEW.status <> OLD.status)
    OR NEW.fence < OLD.fence OR NEW.rev < OLD.rev"""
GUARDS = (
    (
        "sqlite",
        f"""CREATE TRIGGER job_stays BEFORE UPDATE ON job WHEN {_WRONG}
    BEGIN SELECT RAISE(ABORT, 'job_stays'); END""",
    ),
    (
        "postgresql",
        """CREATE FUNCTION job_stays() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'job_stays'; END $$""",
    ),
    (
        "postgresql",
        f"""CREATE TRIGGER job_stays BEFORE UPDATE ON job FOR EACH ROW WHEN ({_WRONG})
    EXECUTE FUNCTION job_stays()""",
    ),
)

# Times of the wall clock are seconds since 1970, those of the steady clock since the machine began.
job = Table(
    "job",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner", String(80), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("class", Integer, nullable=False),  # lower goes first
    Column("vtime", Float, nullable=False),
    Column("cost", Float, nullable=False),  # predicted seconds of the engine
    Column("status", String(12), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("solo", Boolean, nullable=False),
    Column("held", Boolean, nullable=False),
    Column("rev", Integer, nullable=False),
    Column("lease_until", Float, nullable=False),  # steady
    Column("not_before", Float, nullable=False),  # steady
    Column("deadline", Float, nullable=False),
    Column("cancel_asked", Boolean, nullable=False),
    Column("error", String(40), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("spec_sha", String(64), nullable=False),
    Column("batch", String(36), nullable=False),  # jobs that were asked for together
    Column("step", Integer, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("checkpoint", JSON),
    Column("result", JSON),
    Column("detail", Text, nullable=False),  # of a failure, for people
    Column("eta", Float, nullable=False),  # seconds that were told when it was accepted
    Column("starred", Boolean, nullable=False),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("erase_at", Float),  # it is hidden, and erased then
    Index(
        "job_queue", "class", "vtime", "created", "id",
        sqlite_where=text("status = 'queued'"), postgresql_where=text("status = 'queued'"),
    ),
    Index(
        "job_leases", "lease_until",
        sqlite_where=text("status = 'running'"), postgresql_where=text("status = 'running'"),
    ),
    Index(
        "job_mine", "owner", "class", "vtime", "cost", "held", "erase_at", "status",
        sqlite_where=text("status = 'queued'"), postgresql_where=text("status = 'queued'"),
    ),
    Index(
        "job_erase", "erase_at",
        sqlite_where=text("erase_at IS NOT NULL"), postgresql_where=text("erase_at IS NOT NULL"),
    ),
    Index("job_owner", "owner", "id"),
    Index("job_equal", "owner", "spec_sha"),
)  # fmt: skip

# Literals, since an index of some rows is not taken for a value that comes with the query.
QUEUED = job.c.status == literal_column("'queued'")
RUNNING = job.c.status == literal_column("'running'")

event = Table(
    "event",
    metadata,
    Column("job_id", ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),  # 1, 2, 3 ... without a hole
    Column("kind", String(16), nullable=False),
    Column("at", Float, nullable=False),
    Column("data", JSON, nullable=False),
)

artifact = Table(
    "artifact",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("media", String(40), nullable=False),
    Column("size", Integer, nullable=False),
    Column("state", String(8), nullable=False),  # live | deleting
    Column("created", Float, nullable=False),
)

job_artifact = Table(
    "job_artifact",
    metadata,
    Column("job_id", ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("role", String(16), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("sha256", ForeignKey("artifact.sha256"), nullable=False, index=True),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("owner", String(80), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("body_sha", String(64), nullable=False),
    Column("answer", JSON, nullable=False),
    Column("created", Float, nullable=False),
)

owner = Table(
    "owner",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("weight", Float, nullable=False),
    Column("paused", Boolean, nullable=False),
)

# Start-time fair queueing: the virtual time at which an owner's last claimed job of a class ends.
share = Table(
    "share",
    metadata,
    Column("owner", String(80), primary_key=True),
    Column("class", Integer, primary_key=True),
    Column("last", Float, nullable=False),
)

api_key = Table(
    "api_key",
    metadata,
    Column("id", String(16), primary_key=True),  # the first characters, which may be shown
    Column("sha256", String(64), nullable=False, unique=True),
    Column("owner", String(80), nullable=False),
    Column("role", String(8), nullable=False),  # user | admin
    Column("created", Float, nullable=False),
    Column("revoked", Float),
)

rating = Table(
    "rating",
    metadata,
    Column("job_id", ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("owner", String(80), nullable=False),
    Column("value", Integer, nullable=False),  # 1 or -1
    Column("at", Float, nullable=False),
)

# What remains of an erased job.
tombstone = Table(
    "tombstone",
    metadata,
    Column("job_id", String(36), primary_key=True),
    Column("owner", String(80), nullable=False),
    Column("at", Float, nullable=False),
    Column("cause", String(16), nullable=False),
)

# How long things take: a moving mean of seconds, by what decides them.
pace = Table(
    "pace",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("seconds", Float, nullable=False),
)

fact = Table(
    "fact",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", JSON, nullable=False),
)

for _dialect, _guard in GUARDS:
    hook.listen(job, "after_create", DDL(_guard).execute_if(dialect=_dialect))
