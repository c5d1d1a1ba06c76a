"""A backup is the data of one moment, whole or not at all; the doctor names what is wrong."""

from __future__ import annotations

import io
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from diptych.cli.main import entry
from diptych.foundation.errors import InvalidValue, NotFound, NotWritten, Unreadable
from diptych.service import artifacts, doctor
from diptych.service.backups import Kept, backup, restore
from diptych.service.jobs import queries, store
from diptych.service.jobs.database import Database
from diptych.service.jobs.store import Stored
from tests.service.jobs.asking import F, ask, claim


def filled(data: Path, number: int = 3) -> list[str]:
    """Done jobs, each with a picture; their SHA-256."""
    shas: list[str] = []
    with closing(Database.open(data)) as database:
        for i in range(number):
            (job_id,) = ask(database, spec={"seed": i})
            claim(database)
            content = f"picture {i}".encode()
            shas.append(artifacts.put(data / "artifacts", content, "image/png"))
            made = [Stored(shas[-1], "image/png", len(content))]
            database.write_now(lambda c, j=job_id, m=made: store.complete(c, j, F, {}, m, 0.0))
    (data / "secret").write_bytes(b"s" * 32)
    (data / "secret").chmod(0o600)
    return shas


def contents(data: Path) -> dict[str, bytes]:
    with closing(sqlite3.connect(data / "jobs.db")) as database:
        dump = "\n".join(database.iterdump()).encode()
    kept = {str(p.relative_to(data)): p.read_bytes() for p in data.rglob("*/*/*") if p.is_file()}
    return {"": dump, "secret": (data / "secret").read_bytes(), **kept}


def test_there_and_back(tmp_path: Path):
    filled(tmp_path / "data")
    said: list[int] = []
    kept = backup(tmp_path / "data", tmp_path / "a.tar", lambda at: said.append(at.done))
    assert kept == Kept(jobs=3, files=3, missing=()) and said == [1, 2, 3]
    assert restore(tmp_path / "a.tar", tmp_path / "new") == kept
    assert contents(tmp_path / "new") == contents(tmp_path / "data")
    assert (tmp_path / "new" / "secret").stat().st_mode & 0o077 == 0
    assert {one.name for one in tmp_path.iterdir()} == {"data", "new", "a.tar"}
    with closing(Database.open(tmp_path / "new")) as database:
        assert database.read(queries.counts) == {"complete": 3}


def test_it_is_of_one_moment_while_others_write(tmp_path: Path):
    filled(tmp_path / "data")
    with closing(Database.open(tmp_path / "data")) as database:
        ask(database, "ann", 2)

        def more(_: object) -> None:
            ask(database, "bob")

        assert backup(tmp_path / "data", tmp_path / "a.tar", more).jobs == 5
        ask(database, "cat")
    assert restore(tmp_path / "a.tar", tmp_path / "new").jobs == 5
    assert all(not one.do for one in doctor.examine(tmp_path / "new") if one.name != "disk")


def test_what_is_missing_is_told_and_the_rest_is_kept(tmp_path: Path):
    shas = filled(tmp_path / "data")
    artifacts.path_of(tmp_path / "data" / "artifacts", shas[1]).unlink()
    assert backup(tmp_path / "data", tmp_path / "a.tar") == Kept(3, 2, (shas[1],))
    assert restore(tmp_path / "a.tar", tmp_path / "new").missing == (shas[1],)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path):
    filled(tmp_path / "data")
    backup(tmp_path / "data", tmp_path / "a.tar")
    before = contents(tmp_path / "data")
    with pytest.raises(InvalidValue, match="not empty"):
        restore(tmp_path / "a.tar", tmp_path / "data")
    assert contents(tmp_path / "data") == before


def test_half_a_backup_leaves_nothing(tmp_path: Path):
    filled(tmp_path / "data", 30)
    backup(tmp_path / "data", tmp_path / "a.tar")
    whole = (tmp_path / "a.tar").read_bytes()
    for length in (0, 100, 1024, len(whole) // 2, len(whole) * 9 // 10):
        (tmp_path / "half.tar").write_bytes(whole[:length])
        with pytest.raises(Unreadable):
            restore(tmp_path / "half.tar", tmp_path / "new")
        assert {one.name for one in tmp_path.iterdir()} == {"data", "a.tar", "half.tar"}


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "artifacts/aa/bb/cc", "jobs.db/x", "run.sh"]
)
def test_a_foreign_file_in_it_is_refused(name: str, tmp_path: Path):
    filled(tmp_path / "data")
    backup(tmp_path / "data", tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(Unreadable, match="belong"):
        restore(tmp_path / "a.tar", tmp_path / "new")
    assert not (tmp_path / "new").exists() and not (tmp_path / "evil").exists()


def test_nothing_to_back_up_and_no_room(tmp_path: Path):
    with pytest.raises(NotFound):
        backup(tmp_path, tmp_path / "a.tar")
    filled(tmp_path / "data")
    with pytest.raises(NotWritten):
        backup(tmp_path / "data", Path("/proc/a.tar"))


def test_the_doctor_finds_each_ill(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = tmp_path / "data"
    shas = filled(data)

    def ills() -> set[str]:
        return {one.name for one in doctor.examine(data) if one.do} - {"disk"}

    assert ills() == set()
    (data / "secret").chmod(0o644)
    artifacts.path_of(data / "artifacts", shas[0]).write_bytes(b"other")
    assert ills() == {"secret", "files"}
    with closing(sqlite3.connect(data / "jobs.db")) as database:
        database.execute("delete from event where seq = 2 and job_id = (select min(id) from job)")
        database.execute("insert into rating values ('no job', 'ann', 1, 0.0)")
        database.commit()
    assert ills() == {"secret", "files", "events", "database"}
    assert entry(["serve", "doctor", "--data", str(data)]) == 1
    assert "chmod 600" in capsys.readouterr().out
    (data / "jobs.db").write_bytes(b"no database" * 1000)
    assert "database" in ills()


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    filled(tmp_path / "data")
    file, data = str(tmp_path / "a.tar"), str(tmp_path / "data")
    assert entry(["serve", "backup", file, "--data", data]) == 0
    assert entry(["serve", "restore", file, "--data", str(tmp_path / "new")]) == 0
    assert "3 jobs, 3 files" in capsys.readouterr().out
    assert entry(["serve", "backup", "--data", data]) == 2
    assert entry(["serve", "restore", str(tmp_path / "none.tar"), "--data", data]) == 3
    assert entry(["serve", "restore", file, "--data", data]) == 2
    assert "Traceback" not in capsys.readouterr().err
