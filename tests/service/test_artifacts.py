"""Files by the hash of what is in them: written before a row, deleted after it."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select

from diptych.foundation.errors import InvalidValue, NotWritten
from diptych.service.artifacts import DAY, GRACE, path_of, put, read, remove, sweep
from diptych.service.jobs import store, tidying
from diptych.service.jobs.accepting import Wanted, accept
from diptych.service.jobs.database import Database
from diptych.service.jobs.schema import artifact
from diptych.service.jobs.store import Stored, Vanishing

NOW = 1e9


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database.open(tmp_path / "data")) as found:
        yield found


def dated(root: Path, sha256: str, wall: float) -> None:
    os.utime(path_of(root, sha256), (wall, wall))


def made(database: Database, root: Path, data: bytes) -> tuple[str, str]:
    """A job that is complete, and its picture."""
    sha256 = put(root, data, "image/png")
    dated(root, sha256, NOW)
    (job_id,) = database.write_now(
        lambda c: accept(c, "ann", [Wanted(kind="picture", spec={}, cost=1.0)], NOW)
    ).ids
    database.write_now(lambda c: store.claim(c, 0.0, NOW, 30.0))
    stored = [Stored(sha256, "image/png", len(data))]
    assert database.write_now(lambda c: store.complete(c, job_id, 1, {}, stored, NOW))
    return job_id, sha256


def states(database: Database) -> dict[str, str]:
    asked = select(artifact.c.sha256, artifact.c.state)
    return dict(database.read(lambda c: [tuple(row) for row in c.execute(asked)]))


def test_what_is_put_is_read(tmp_path: Path):
    sha256 = put(tmp_path, b"picture", "image/png")
    assert sha256 == hashlib.sha256(b"picture").hexdigest()
    assert path_of(tmp_path, sha256) == tmp_path / sha256[:2] / sha256[2:4] / sha256
    assert read(tmp_path, sha256) == b"picture"
    assert put(tmp_path, b"picture", "image/png") == sha256
    assert read(tmp_path, "0" * 64) is None
    path_of(tmp_path, sha256).write_bytes(b"pictura")  # a rotten disk
    assert read(tmp_path, sha256) is None
    put(tmp_path, b"picture", "image/png")
    assert read(tmp_path, sha256) == b"picture"


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_a_name_is_a_hash(tmp_path: Path, name: str):
    with pytest.raises(InvalidValue):
        read(tmp_path, name)
    with pytest.raises(InvalidValue):
        put(tmp_path, b"", "text/html; charset=x")


def test_a_file_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    done: list[str] = []
    sync, rename = os.fsync, Path.replace

    def synced(handle: int) -> None:
        name = Path(f"/proc/self/fd/{handle}").readlink()
        done.append("file" if name.suffix == ".part" else str(name.relative_to(tmp_path)))
        sync(handle)

    def renamed(self: Path, to: Path) -> Path:
        done.append("rename")
        return rename(self, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    sha256 = put(tmp_path / "root", b"picture", "image/png")
    folder = f"root/{sha256[:2]}/{sha256[2:4]}"
    folders = {folder, f"root/{sha256[:2]}", "root", "."}
    assert done[:3] == ["file", "rename", folder] and set(done[3:]) == folders
    done.clear()
    # One that is there may be of a process that was killed before it synced the names.
    put(tmp_path / "root", b"picture", "image/png")
    assert set(done) == folders


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(NotWritten, match="No space"):
            put(tmp_path, b"picture", "image/png")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / ".lock"]


def test_the_sweeper_takes_what_is_old_and_nobodys(database: Database, tmp_path: Path):
    root = tmp_path / "artifacts"
    _, mine = made(database, root, b"mine")
    old, young = (put(root, data, "image/png") for data in (b"old", b"young"))
    dated(root, old, NOW - DAY - 1)
    dated(root, young, NOW - DAY + 60)
    dated(root, mine, NOW - 9 * DAY)
    part = path_of(root, old).parent / ".x.part"
    part.write_bytes(b"half")
    os.utime(part, (NOW - 2 * DAY, NOW - 2 * DAY))
    assert sweep(database, root, NOW) == [old]
    assert [read(root, one) is not None for one in (mine, old, young)] == [True, False, True]
    assert not part.exists() and states(database) == {mine: "live", old: "deleting"}
    assert sweep(database, root, NOW + GRACE) == []
    assert states(database) == {mine: "live"}


def test_erased_bytes_go_at_once_but_not_those_of_another_job(database: Database, tmp_path: Path):
    root = tmp_path / "artifacts"
    first, sha256 = made(database, root, b"same")
    second, _ = made(database, root, b"same")
    for job_id, left in ((first, True), (second, False)):
        database.write_now(lambda c, one=job_id: tidying.hide(c, one, NOW, NOW + 30.0))
        shas = database.write_now(lambda c: tidying.erase_due(c, NOW + 30))
        assert remove(database, root, shas, wall=NOW + 30) == ([] if left else [sha256])
        assert (read(root, sha256) is not None) == left
    remove(database, root, [sha256, "f" * 64], wall=NOW + 30)  # again, and of none: no error


def test_a_picture_made_again_while_it_is_deleted_stays(database: Database, tmp_path: Path):
    root = tmp_path / "artifacts"
    first, sha256 = made(database, root, b"same")
    database.write_now(lambda c: tidying.hide(c, first, NOW, NOW + 30.0))
    shas = database.write_now(lambda c: tidying.erase_due(c, NOW + 30))
    put(root, b"same", "image/png")  # another worker, between its file and its commit
    remove(database, root, shas, wall=NOW + 30)
    with pytest.raises(Vanishing):
        made(database, root, b"same")  # it writes the file, and is told to come again
    dated(root, sha256, NOW + 31)
    sweep(database, root, NOW + 31 + GRACE)
    stored = [Stored(sha256, "image/png", 4)]
    (left,) = database.read(store.running)
    database.write_now(lambda c: store.complete(c, left.id, 1, {}, stored, NOW))
    assert sweep(database, root, NOW + 9 * DAY) == [] and read(root, sha256) == b"same"


def test_a_deletion_cut_short_is_brought_to_its_end(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = tmp_path / "artifacts"
    job_id, sha256 = made(database, root, b"mine")
    database.write_now(lambda c: tidying.hide(c, job_id, NOW, NOW + 30.0))
    shas = database.write_now(lambda c: tidying.erase_due(c, NOW + 30))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            remove(database, root, shas, wall=NOW + 30)
    sweep(database, root, NOW + 30 + GRACE)
    assert read(root, sha256) is None and states(database) == {}


def test_many_writers_of_the_same_bytes(tmp_path: Path):
    threads = [threading.Thread(target=put, args=(tmp_path, b"x" * 9999, "image/png"))
               for _ in range(12)]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert len(files) == 1 and read(tmp_path, files[0].name) is not None


def test_what_is_put_again_is_young_again(database: Database, tmp_path: Path):
    root = tmp_path / "artifacts"
    sha256 = put(root, b"old", "image/png")
    dated(root, sha256, NOW - 2 * DAY)
    put(root, b"old", "image/png")  # its job is not committed yet
    assert sweep(database, root, NOW) == [] and read(root, sha256) == b"old"
