"""A server's data as one file, made while it runs, and back into a folder.

A tar file: the database as SQLite copies it at one moment (so no transaction is cut), the files of
its rows, the secret, the certificate and the names of the models. What is under way is not in it:
those jobs begin again at their first step, which gives the same pictures.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from diptych.foundation.errors import InvalidValue, NotFound, Unreadable
from diptych.foundation.files import write_with
from diptych.foundation.lock import held
from diptych.foundation.progress import Progress, Report, silent
from diptych.service.artifacts import path_of

BESIDE = (
    "secret", "models.json", "registry.json", "provenance/certificate.pem", "provenance/key.pem",
)  # fmt: skip
_LIVE = "select sha256 from artifact where state = 'live' order by sha256"


@dataclass(frozen=True)
class Kept:
    """What a backup holds. `missing`: files that rows speak of and that are not there, or are not
    what they were."""

    jobs: int
    files: int
    missing: tuple[str, ...]


def backup(data: Path, file: Path, report: Report = silent) -> Kept:
    """Write a backup of a folder, whole or not at all.

    Raises NotFound for a folder without a server's data, NotWritten when the disk refuses.
    """
    if not (data / "jobs.db").is_file():
        raise NotFound(f"There is no server's data in {str(data)!r}.", do="Say --data DIR.")
    kept: list[Kept] = []
    write_with(file, lambda path: kept.append(_write(data, path, report)))
    return kept[0]


def restore(file: Path, data: Path, report: Report = silent) -> Kept:
    """A folder from a backup, whole or not at all.

    Raises NotFound, InvalidValue for a folder that holds anything, Unreadable for what is no whole
    backup.
    """
    if not file.is_file():
        raise NotFound(f"There is no backup {str(file)!r}.")
    if data.exists() and any(data.iterdir()):
        raise InvalidValue(
            f"{str(data)!r} is not empty.", do="Name a folder that is not there yet."
        )
    data.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=data.parent, prefix=f".{data.name}.", suffix=".part"))
    try:
        try:
            _unpack(file, made, report)
            kept = _checked(made)
        except (tarfile.TarError, sqlite3.DatabaseError, EOFError) as error:
            raise Unreadable(f"{str(file)!r} is no whole backup.") from error
        if data.exists():
            data.rmdir()
        made.replace(data)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return kept


def _write(data: Path, path: Path, report: Report) -> Kept:
    missing: list[str] = []
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".backup.") as folder:
        copy = Path(folder) / "jobs.db"
        _copied(data, copy)
        shas, jobs = _shas(copy), _jobs(copy)
        with tarfile.open(path, "w") as tar:
            tar.add(copy, "jobs.db")
            for name in BESIDE:
                if (data / name).is_file():
                    tar.add(data / name, name)
            for number, sha256 in enumerate(shas):
                place = path_of(data / "artifacts", sha256)
                try:
                    tar.add(place, str(Path("artifacts") / place.relative_to(data / "artifacts")))
                except FileNotFoundError:
                    missing.append(sha256)
                report(Progress(number + 1, len(shas)))
    return Kept(jobs, len(shas) - len(missing), tuple(missing))


def _copied(data: Path, copy: Path) -> None:
    """The database at one moment. Beside a running server only a reader may look (`Database`)."""
    with _source(data) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE").close()


@contextmanager
def _source(data: Path) -> Iterator[sqlite3.Connection]:
    uri = (data / "jobs.db").resolve().as_uri()
    with ExitStack() as stack:
        try:
            stack.enter_context(held(data / "server.lock", "", ""))
        except InvalidValue:  # a server has it
            uri += "?mode=ro"
        yield stack.enter_context(closing(sqlite3.connect(uri, uri=True)))


def _unpack(file: Path, made: Path, report: Report) -> None:
    with tarfile.open(file, "r:") as tar:
        members = tar.getmembers()
        for number, member in enumerate(members):
            if not member.isfile() or not _is_ours(member.name):
                raise Unreadable(f"{member.name!r} does not belong into a backup.")
            tar.extract(member, made, filter="data")
            report(Progress(number + 1, len(members)))
    for name in ("secret", "provenance/key.pem"):
        if (made / name).exists():
            (made / name).chmod(0o600)


def _is_ours(name: str) -> bool:
    if name in ("jobs.db", *BESIDE):
        return True
    root, _, rest = name.partition("/")
    sha256 = rest.rpartition("/")[2]
    try:
        return root == "artifacts" and str(path_of(Path(root), sha256)) == name
    except InvalidValue:
        return False


def _checked(made: Path) -> Kept:
    """What was unpacked is whole. Raises Unreadable."""
    if not (made / "jobs.db").is_file():
        raise Unreadable("There is no database in it.")
    with closing(sqlite3.connect(made / "jobs.db")) as database:
        (said,) = database.execute("PRAGMA integrity_check").fetchone()
    if said != "ok":
        raise Unreadable(f"Its database is damaged: {said}.")
    shas, missing = _shas(made / "jobs.db"), []
    for sha256 in shas:
        place = path_of(made / "artifacts", sha256)
        if not place.is_file() or hashlib.sha256(place.read_bytes()).hexdigest() != sha256:
            place.unlink(missing_ok=True)
            missing.append(sha256)
    return Kept(_jobs(made / "jobs.db"), len(shas) - len(missing), tuple(missing))


def _shas(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return [sha256 for (sha256,) in database.execute(_LIVE)]


def _jobs(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("select count(*) from job").fetchone()[0])
