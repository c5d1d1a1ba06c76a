"""What is wrong with a server's data, and what to do: looked at while the server runs or not."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from diptych.foundation.errors import NotFound
from diptych.service.artifacts import path_of
from diptych.service.jobs.sqlite import sqlite_notice

LEAST_FREE = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `do` is empty where all is well."""

    name: str
    says: str
    do: str = ""


def examine(data: Path) -> Iterator[Finding]:
    """All of it, one finding after the other. Raises NotFound for a folder without data."""
    if not (data / "jobs.db").is_file():
        raise NotFound(f"There is no server's data in {str(data)!r}.", do="Say --data DIR.")
    yield Finding("sqlite", sqlite_notice())
    yield _disk(data)
    yield _secret(data)
    uri = f"{(data / 'jobs.db').resolve().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as database:
            for look in LOOKS:
                yield look(database, data)
    except sqlite3.DatabaseError as error:
        yield Finding("database", f"It cannot be read: {error}.", "Restore a backup.")


def _disk(data: Path) -> Finding:
    disk = shutil.disk_usage(data)
    least = max(LEAST_FREE, disk.total // 20)
    says = f"{disk.free / 2**30:.1f} GiB free"
    if disk.free >= least:
        return Finding("disk", says)
    do = f"Free {(least - disk.free) / 2**30:.1f} GiB: until then no job is accepted."
    return Finding("disk", says, do)


def _secret(data: Path) -> Finding:
    path = data / "secret"
    if not path.exists():
        return Finding("secret", "none yet; the first start makes one")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        return Finding("secret", "Others can read it.", f"chmod 600 {path}")
    return Finding("secret", "only its owner can read it")


def _whole(database: sqlite3.Connection, data: Path) -> Finding:
    (said,) = database.execute("PRAGMA integrity_check").fetchone()
    (loose,) = database.execute("select count(*) from pragma_foreign_key_check").fetchone()
    if said != "ok" or loose:
        says = said if said != "ok" else f"{loose} rows speak of others that are not there"
        return Finding("database", says, "Restore a backup.")
    return Finding("database", "whole")


def _events(database: sqlite3.Connection, data: Path) -> Finding:
    """Each job's events are numbered 1, 2, 3, ... up to its own number, and end at most once."""
    ends = "sum(event.kind in ('complete', 'failed', 'canceled'))"
    (bad,) = database.execute(
        f"""select count(*) from (
            select job.id from job left join event on event.job_id = job.id group by job.id
            having count(event.seq) <> job.rev or max(event.seq) <> job.rev or {ends} > 1)"""
    ).fetchone()
    if bad:
        return Finding("events", f"{bad} jobs with a hole in their history", "Restore a backup.")
    return Finding("events", "without a hole")


def _jobs(database: sqlite3.Connection, data: Path) -> Finding:
    rows = database.execute("select status, count(*) from job group by status order by status")
    says = ", ".join(f"{number} {status}" for status, number in rows)
    return Finding("jobs", says or "none")


def _files(database: sqlite3.Connection, data: Path) -> Finding:
    """Every file that a row speaks of is there and is what it was."""
    root, missing, altered, number = data / "artifacts", 0, 0, 0
    for (sha256,) in database.execute("select sha256 from artifact where state = 'live'"):
        number += 1
        try:
            content = path_of(root, sha256).read_bytes()
        except OSError:
            missing += 1
            continue
        altered += hashlib.sha256(content).hexdigest() != sha256
    if missing or altered:
        says = f"{missing} of {number} missing, {altered} altered"
        return Finding("files", says, "Restore a backup, or paint them anew from their seeds.")
    return Finding("files", f"{number}, all as they were")


def _keys(database: sqlite3.Connection, data: Path) -> Finding:
    (number,) = database.execute("select count(*) from api_key where revoked is null").fetchone()
    if number:
        return Finding("keys", str(number))
    return Finding("keys", "none: only this machine can be served")


LOOKS: tuple[Callable[[sqlite3.Connection, Path], Finding], ...] = (
    _whole, _events, _jobs, _files, _keys,
)  # fmt: skip
