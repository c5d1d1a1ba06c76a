"""The checker can fail: each way of damage to a finished folder is named by its own promise."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from diptych.service import artifacts
from diptych.service.jobs import accepting, store
from diptych.service.jobs.accepting import Key, Wanted
from diptych.service.jobs.database import Database
from diptych.service.jobs.store import Stored
from diptych.service.torture.checker import Told, check

WALL = 1e9


def finished(data: Path) -> tuple[list[Told], dict[str, str]]:
    """Three jobs: two complete, one canceled; a file each for the complete ones."""
    told, solo = [], {}
    with closing(Database.open(data)) as database:
        for i in range(3):
            wanted = Wanted(kind="paint", spec={"seed": i}, cost=1.0)
            key = Key(f"k{i}", f"b{i}")
            (job_id,) = database.write_now(
                lambda c, w=wanted, k=key: accepting.accept(c, "local", [w], WALL, k).ids
            )
            told.append(Told(job_id=job_id, key=f"k{i}", same=str(i), cancel=i == 2))
            if i == 2:
                database.write_now(lambda c, j=job_id: store.cancel(c, j, WALL))
                continue
            picture = b"picture %d" % i
            solo[str(i)] = artifacts.put(data / "artifacts", picture, "image/png")
            stored = Stored(solo[str(i)], "image/png", len(picture))
            found = database.write_now(lambda c: store.claim(c, 0.0, WALL, 30.0)).row
            assert found is not None
            database.write_now(
                lambda c, r=found, s=stored: store.complete(
                    c, r["id"], r["fence"], {"generation_time": 1.0}, [s], WALL
                )
            )
    return told, solo


def sql(statement: str) -> Callable[[Path, str, Path], None]:
    def damage(data: Path, job_id: str, _: Path) -> None:
        with closing(sqlite3.connect(data / "jobs.db")) as connection:
            connection.execute("DROP TRIGGER job_stays")
            connection.execute(statement.replace("JOB", f"'{job_id}'"))
            connection.commit()

    return damage


def flipped(_data: Path, _job: str, picture: Path) -> None:
    found = bytearray(picture.read_bytes())
    found[3] ^= 1
    picture.write_bytes(found)


def strayed(data: Path, _job: str, _picture: Path) -> None:
    sha256 = artifacts.put(data / "artifacts", b"nobody's", "image/png")
    os.utime(artifacts.path_of(data / "artifacts", sha256), (WALL - 9e4, WALL - 9e4))


TIE = "INSERT INTO event SELECT job_id, 4, kind, at, data FROM event WHERE job_id=JOB AND seq=3"
DAMAGES = {
    "no job": (sql("DELETE FROM job WHERE id=JOB"), "every accepted job is there"),
    "no event": (sql("DELETE FROM event WHERE job_id=JOB AND seq=2"), "without a gap"),
    "two ends": (sql(TIE), "exactly once"),
    "no end": (sql("UPDATE job SET status='running' WHERE id=JOB"), "exactly once"),
    "no file": (lambda _d, _j, picture: picture.unlink(), "every picture is whole"),
    "flipped": (flipped, "every picture is whole"),
    "no tie": (sql("DELETE FROM job_artifact WHERE job_id=JOB"), "as if painted alone"),
    "canceled": (sql("UPDATE job SET status='canceled' WHERE id=JOB"), "asked to be"),
    "failed": (sql("UPDATE job SET status='failed' WHERE id=JOB"), "legitimate"),
    "no key": (sql("DELETE FROM idempotency WHERE key='k0'"), "one key"),
    "no row": (
        sql("INSERT INTO artifact VALUES ('%s', 'image/png', 1, 'live', 1e9)" % ("a" * 64)),
        "row has its file",
    ),
    "stray": (strayed, "old file"),
}


def test_a_folder_that_is_right_passes(tmp_path: Path):
    told, solo = finished(tmp_path)
    verdicts = check(tmp_path, told, solo)
    assert not [one for one in verdicts if one.broken]
    # Each promise looked at something, but for failures, of which there are none.
    assert [one.promise for one in verdicts if not one.cases] == [
        "failed has a reason that is legitimate"
    ]


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_is_named(tmp_path: Path, name: str):
    told, solo = finished(tmp_path)
    damage, promise = DAMAGES[name]
    damage(tmp_path, told[0].job_id, artifacts.path_of(tmp_path / "artifacts", solo["0"]))
    broken = [one for one in check(tmp_path, told, solo) if one.broken]
    assert any(promise in one.promise for one in broken), broken


def test_a_key_that_gave_two_jobs_is_named(tmp_path: Path):
    told, solo = finished(tmp_path)
    twice = Told(job_id=told[1].job_id, key=told[0].key, same="1")
    (broken,) = [one for one in check(tmp_path, [*told, twice], solo) if one.broken]
    assert broken.promise == "one key is one job"


def test_a_job_that_nobody_was_told_of_is_named(tmp_path: Path):
    told, solo = finished(tmp_path)
    broken = [one.promise for one in check(tmp_path, told[:2], solo) if one.broken]
    assert "every job was asked for, once" in broken


def test_a_picture_that_is_another_than_alone_is_named(tmp_path: Path):
    told, solo = finished(tmp_path)
    (broken,) = [one for one in check(tmp_path, told, solo | {"1": "0" * 64}) if one.broken]
    assert broken.promise == "every picture is as if painted alone" and len(broken.broken) == 1
