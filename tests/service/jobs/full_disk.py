"""Run in a mount namespace of its own: the store over a file system of 3 MB that gets full.

Prints one JSON object of what came of it; the argument is an empty folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from diptych.foundation.errors import NotWritten
from diptych.service import artifacts
from diptych.service.jobs import store
from diptych.service.jobs.accepting import Key, Wanted, accept
from diptych.service.jobs.database import Database
from diptych.service.jobs.store import Stored

WALL = 1e9


def filled(root: Path) -> Path:
    """A file that leaves not a byte."""
    path = root / "ballast"
    handle = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        for size in (65536, 4096, 1):
            try:
                while True:
                    os.write(handle, b"x" * size)
            except OSError:
                continue
    finally:
        os.close(handle)
    return path


def accepted(database: Database, number: int) -> str:
    wanted = Wanted(kind="paint", spec={"prompt": "x" * 3000, "seed": number}, cost=1.0)
    key = Key(f"k{number}", "b")
    return database.write_now(lambda c: accept(c, "local", [wanted], WALL, key).ids)[0]


def refused(run: object) -> bool:
    try:
        run()  # pyright: ignore
    except NotWritten:
        return True
    return False


def main(root: Path) -> dict[str, object]:
    told: dict[str, object] = {}
    database = Database.open(root / "data")
    pictures = root / "data" / "artifacts"
    ids = [accepted(database, number) for number in range(3)]
    row = database.write_now(lambda c: store.claim(c, 0.0, WALL, 30.0)).row
    assert row is not None
    job_id, fence = row["id"], row["fence"]
    ballast = filled(root)
    # What still fits into the last page of the log is accepted; then nothing is.
    n = next(n for n in range(100, 200) if refused(lambda n=n: ids.append(accepted(database, n))))
    told["accept"] = refused(lambda: accepted(database, n))
    told["artifact"] = refused(lambda: artifacts.put(pictures, b"y" * 50_000, "image/png"))
    told["left"] = [str(one) for one in pictures.rglob("*") if one.is_file() and one.stat().st_size]
    place = {"file": "z" * 20_000}
    told["checkpoint"] = refused(
        lambda: database.write_now(
            lambda c: store.checkpointed(c, job_id, fence, 2, place, 1.0, WALL)
        )
    )
    told["finish"] = refused(
        lambda: database.write_now(
            lambda c: store.complete(c, job_id, fence, {"text": "z" * 20_000}, [], WALL)
        )
    )
    told["status while full"] = database.read(lambda c: store.running(c)[0].id) == job_id
    ballast.unlink()
    told["again"] = accepted(database, n)
    ids.append(str(told["again"]))
    sha = artifacts.put(pictures, b"y" * 50_000, "image/png")
    done = database.write_now(
        lambda c: store.complete(
            c, job_id, fence, {"t": 1}, [Stored(sha, "image/png", 50_000)], WALL
        )
    )
    told["done"] = done is not None and done.job.status == "complete"
    database.close()
    database = Database.open(root / "data")  # as a restart finds it
    sql = "select id from job"
    told["lost"] = sorted(
        set(ids) - {one[0] for one in database.read(lambda c: c.exec_driver_sql(sql).all())}
    )
    told["sound"] = database.read(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar())
    told["jobs"] = database.read(lambda c: c.exec_driver_sql("select count(*) from job").scalar())
    told["wanted"] = len(ids)
    database.close()
    return told


if __name__ == "__main__":
    where = Path(sys.argv[1])
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(where)]
    subprocess.run(mount, check=True, capture_output=True)
    print(json.dumps(main(where)))
