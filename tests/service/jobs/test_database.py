"""One writer, shared commits, and what is promised of them."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, inspect, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError

from diptych.foundation.errors import InvalidValue, NotWritten
from diptych.service.jobs import fairness, queries, store
from diptych.service.jobs.accepting import Wanted, accept
from diptych.service.jobs.database import MOST_TOGETHER, Database
from diptych.service.jobs.migrations import upgrade
from diptych.service.jobs.schema import job, metadata
from diptych.service.jobs.sqlite import sqlite_notice
from diptych.service.jobs.store import claim, complete

ONE = Wanted(kind="picture", spec={"prompt": "a red square"}, cost=1.0)


def accepted(connection: Connection) -> str:
    return accept(connection, "ann", [ONE], 1000.0).ids[0]


def form(connection: Connection) -> object:
    """All tables, columns and keys, then indexes and triggers."""
    found = inspect(connection)
    tables = sorted(set(found.get_table_names()) - {"alembic_version"})
    asked = "select name, sql from sqlite_master where type <> 'table' and sql <> '' order by name"
    return [
        [
            table,
            [(c["name"], repr(c["type"]), c["nullable"]) for c in found.get_columns(table)],
            found.get_pk_constraint(table)["constrained_columns"],
            sorted(map(repr, found.get_foreign_keys(table))),
            sorted(map(repr, found.get_unique_constraints(table))),
        ]
        for table in tables
    ] + [[row.name, " ".join(row.sql.split())] for row in connection.execute(text(asked))]


def test_what_was_migrated_is_what_the_schema_says():
    forms = []
    for make in (upgrade, metadata.create_all):
        engine = create_engine("sqlite://")
        with engine.begin() as connection:
            make(connection)
            forms.append(form(connection))
        engine.dispose()
    assert forms[0] == forms[1] and len(forms[0]) > 10


def test_data_of_the_first_release_is_brought_to_todays_form(tmp_path: Path):
    engine = create_engine(f"sqlite:///{tmp_path / 'jobs.db'}")
    with engine.begin() as connection:
        upgrade(connection, "0001")
        job_id = accepted(connection)
    engine.dispose()
    with closing(Database.open(tmp_path)) as database:
        assert [one.id for one in database.read(queries.queue)] == [job_id]


def test_a_job_that_ended_cannot_be_revived_whatever_the_code_says():
    with closing(Database.in_memory()) as database:
        job_id = database.write_now(accepted)
        database.write_now(lambda c: claim(c, 0.0, 0.0, 9.0))
        database.write_now(lambda c: complete(c, job_id, 1, {}, [], 0.0))
        for wrong in ({"status": "queued"}, {"fence": 0}, {"rev": 1}):
            with pytest.raises(IntegrityError, match="job_stays"):
                database.write_now(lambda c, w=wrong: c.execute(update(job).values(**w)))


def test_a_folder_has_one_server(tmp_path: Path):
    with closing(Database.open(tmp_path)) as database:
        job_id = database.write_now(accepted)
        with pytest.raises(InvalidValue, match="another server has this folder"):
            Database.open(tmp_path)
    with closing(Database.open(tmp_path)) as database:  # and what was written is there
        assert database.read(lambda c: queries.job_of(c, job_id)) is not None
        assert "SQLite" in sqlite_notice()


def test_the_promises_of_the_connections(tmp_path: Path):
    with closing(Database.open(tmp_path)) as database:
        said = {
            name: database.write_now(lambda c, n=name: c.scalar(text(f"PRAGMA {n}")))
            for name in ("journal_mode", "synchronous", "foreign_keys", "mmap_size")
        }
        assert said == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "mmap_size": 0}
        with pytest.raises(OperationalError, match=r"readonly|read-only"):
            database.read(accepted)


def test_a_reader_sees_one_state(tmp_path: Path):
    with closing(Database.open(tmp_path)) as database:

        def twice(connection: Connection) -> tuple[int, int]:
            before = len(queries.queue(connection))
            database.write_now(accepted)
            return before, len(queries.queue(connection))

        assert database.read(twice) == (0, 0)
        assert len(database.read(queries.queue)) == 1


def test_clients_share_commits_and_only_the_raiser_fails(tmp_path: Path):
    class Wrong(Exception):
        pass

    def wrong(connection: Connection) -> str:
        accepted(connection)
        raise Wrong

    async def clients(database: Database) -> list[object]:
        asked = [database.write(wrong if i % 40 == 7 else accepted) for i in range(200)]
        return await asyncio.gather(*asked, return_exceptions=True)

    with closing(Database.open(tmp_path)) as database:
        answers = asyncio.run(clients(database))
        failed = [i for i, one in enumerate(answers) if isinstance(one, Wrong)]
        assert failed == [7, 47, 87, 127, 167]
        kept = {row.id for row in database.read(queries.queue)}
        assert kept == {one for one in answers if isinstance(one, str)} and len(kept) == 195
        before = database.commits

        async def many() -> None:
            await asyncio.gather(*(database.write(accepted) for _ in range(640)))

        asyncio.run(many())
        assert 640 / MOST_TOGETHER <= database.commits - before <= 80


def test_who_gives_up_waiting_stops_nobody():
    async def run(database: Database) -> int:
        tasks = [asyncio.create_task(database.write(accepted)) for _ in range(8)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        return len([one for one in await asyncio.gather(*tasks, return_exceptions=True)
                    if isinstance(one, str)])  # fmt: skip

    with closing(Database.in_memory()) as database:
        assert asyncio.run(run(database)) == 7


def test_close_writes_what_was_asked_for(tmp_path: Path):
    database = Database.open(tmp_path)
    begun, gate, ids = threading.Event(), threading.Event(), []

    def closed_gate(connection: Connection) -> None:
        begun.set()
        gate.wait(5)

    threads = [threading.Thread(target=database.write_now, args=(closed_gate,))]
    threads += [
        threading.Thread(target=lambda: ids.append(database.write_now(accepted))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
        begun.wait(5)
    while database._orders.qsize() < 20:
        time.sleep(0.002)
    threading.Timer(0.05, gate.set).start()
    database.close()
    for thread in threads:
        thread.join()
    with pytest.raises(NotWritten):
        database.write_now(accepted)
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as found:
        assert {row[0] for row in found.execute("select id from job")} == set(ids)


def test_a_full_disk_is_said_and_passes(tmp_path: Path):
    with closing(Database.open(tmp_path)) as database:
        pages = database.write_now(lambda c: c.scalar(text("PRAGMA page_count")))
        database.write_now(lambda c: c.execute(text(f"PRAGMA max_page_count={pages + 2}")))
        long = Wanted(kind="picture", spec={"prompt": "x" * 200_000}, cost=1.0)
        with pytest.raises(NotWritten, match="full"):
            database.write_now(lambda c: accept(c, "ann", [long], 0.0))
        assert database.read(queries.queue) == []
        database.write_now(lambda c: c.execute(text("PRAGMA max_page_count=100000")))
        database.write_now(lambda c: accept(c, "ann", [long], 0.0))
        assert len(database.read(queries.queue)) == 1


CHILD = """
import asyncio, sys
from pathlib import Path
from diptych.service.jobs.accepting import Wanted, accept
from diptych.service.jobs.database import Database

async def client(database):
    while True:
        one = Wanted(kind="picture", spec={}, cost=1.0)
        accepted = await database.write(lambda c: accept(c, "ann", [one], 0.0))
        sys.stdout.write(accepted.ids[0] + "\\n")
        sys.stdout.flush()

async def main():
    database = Database.open(Path(sys.argv[1]))
    await asyncio.gather(*(client(database) for _ in range(16)))

asyncio.run(main())
"""


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_what_was_acknowledged_outlives_kill_9(tmp_path: Path):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    told = [child.stdout.readline().strip() for _ in range(300)]
    child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate()
    told += [line for line in rest.split("\n")[:-1] if line]
    with closing(Database.open(tmp_path)) as database:
        there = set(database.read(lambda c: c.scalars(select(job.c.id)).all()))
        orphans = "select count(*) from job where id not in (select job_id from event)"
        assert database.read(lambda c: c.scalar(text(orphans))) == 0
    assert len(told) >= 300 and set(told) <= there


def test_a_lock_of_another_program_is_said(tmp_path: Path):
    with closing(Database.open(tmp_path)) as database:
        database.write_now(lambda c: c.execute(text("PRAGMA busy_timeout=20")))
        with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(NotWritten, match="locked"):
                database.write_now(accepted)
            other.execute("ROLLBACK")
        assert database.write_now(accepted)


def test_a_wrong_address_is_named():
    with pytest.raises(InvalidValue, match="'mysql'"):
        Database.at("mysql://localhost/x")


def test_the_queue_is_read_by_its_index(tmp_path: Path):
    with closing(Database.open(tmp_path)) as database:
        for statement, index in (
            (store._READY, "job_queue"),
            (store._LATE, "job_leases"),
            (fairness._LAST, "job_mine"),
        ):
            said = str(statement.compile(dialect=database._writer.dialect))
            plan = database.read(
                lambda c, s=said: c.exec_driver_sql(f"explain query plan {s}", (1,) * s.count("?"))
                .all()
            )  # fmt: skip
            steps = " ".join(str(row[3]) for row in plan)
            assert f"job USING INDEX {index}" in steps and "TEMP B-TREE" not in steps, steps
