"""Pictures and other files of jobs, in a folder, each under the SHA-256 of its bytes.

A file is written and synced before any row speaks of it. It is deleted the other way round: its row
says `deleting` first, and a job that comes by with the same bytes meanwhile writes them once more.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from diptych.foundation.errors import InvalidValue, NotWritten
from diptych.foundation.files import sync_folder, write_whole
from diptych.service.jobs import tidying
from diptych.service.jobs.database import Database
from diptych.service.jobs.schema import artifact

DAY = 24 * 3600.0
GRACE = 10.0  # between the writing of a file and the commit of its job
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MEDIA = re.compile(r"[a-z]+/[a-z0-9.+-]{1,32}")


def path_of(root: Path, sha256: str) -> Path:
    """Where an artifact lies. Raises InvalidValue for what is no SHA-256."""
    if not _SHA256.fullmatch(sha256):
        raise InvalidValue(f"{sha256!r} is no SHA-256.", do="64 hexadecimal digits, lower case.")
    return root / sha256[:2] / sha256[2:4] / sha256


def put(root: Path, data: bytes, media: str) -> str:
    """Write an artifact, so that it outlives a power cut; its SHA-256. One that is there already is
    kept, but counts as new for the sweeper. Raises NotWritten when the disk refuses."""
    if not _MEDIA.fullmatch(media):
        raise InvalidValue(f"{media!r} is no media type.", do="Such as image/png.")
    sha256 = hashlib.sha256(data).hexdigest()
    path = path_of(root, sha256)
    try:
        with _guarded(root, alone=False):
            if read(root, sha256) is None:
                write_whole(path, data)
            else:
                os.utime(path)
            # Each folder's own name must outlive it as well. One that is there already may have
            # been made by a process that was killed before it came so far.
            for one in (path.parent, path.parent.parent, root, root.parent):
                sync_folder(one)
    except OSError as error:
        raise NotWritten(
            f"Cannot write {str(path)!r}: {error.strerror or error}.", do="Free some space."
        ) from error
    return sha256


def read(root: Path, sha256: str) -> bytes | None:
    """An artifact's bytes; None where it is missing or not what it was."""
    try:
        data = path_of(root, sha256).read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == sha256 else None


def published(root: Path, sha256: str, sign: Callable[[bytes], bytes]) -> bytes | None:
    """A picture with its signed statement: made once, kept beside the artifact and deleted with
    it. None where the artifact is missing or altered. Raises NotWritten, and what `sign` does."""
    beside = _signed_beside(path_of(root, sha256))
    with suppress(FileNotFoundError):
        return beside.read_bytes()
    with _guarded(root, alone=True):  # nobody deletes it meanwhile, nor signs it a second time
        core = read(root, sha256)
        if core is None:
            return None
        if not beside.exists():
            write_whole(beside, sign(core))
        return beside.read_bytes()


def _signed_beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.c2pa")


def remove(database: Database, root: Path, shas: Sequence[str], *, wall: float) -> list[str]:
    """Delete artifacts that no job needs, at once; those that were deleted. Their rows go with a
    later `sweep`."""
    marked = database.write_now(lambda c: _marked(c, shas, wall))
    for one in marked:
        _unlink(root, one, before=None)
    return marked


def sweep(database: Database, root: Path, wall: float, older: float = DAY) -> list[str]:
    """Delete files and rows that belong to no job and are older than `older` seconds: what a crash
    between the writing of a file and its commit left behind. Gives what was deleted."""
    _finish(database, root, wall)
    strays = set(database.read(lambda c: tidying.strays(c, wall, older)))
    strays |= {path.name for path in _files(root) if path.stat().st_mtime < wall - older}
    marked = database.write_now(lambda c: _marked(c, sorted(strays), wall))
    deleted = [one for one in marked if _unlink(root, one, before=wall - older)]
    for path in root.glob("*/*/.*.part"):  # of a process that was killed while it wrote
        if path.stat().st_mtime < wall - older:
            path.unlink(missing_ok=True)
    return deleted


def _marked(connection: Connection, shas: Sequence[str], wall: float) -> list[str]:
    """Those of these that no job has, now marked as being deleted."""
    free: list[str] = []
    for i in range(0, len(shas), 500):
        free += tidying.unneeded(connection, shas[i : i + 500])
    for sha256 in free:
        dying = {"state": "deleting", "created": wall}
        row = artifact.c.sha256 == sha256
        if connection.execute(update(artifact).where(row).values(**dying)).rowcount == 0:
            connection.execute(
                insert(artifact), {"sha256": sha256, "media": "", "size": 0, **dying}
            )
    return free


def _finish(database: Database, root: Path, wall: float) -> None:
    """Rows of files that are deleted go after a while: a job whose file was written just before,
    and deleted, meets the row and writes the file again."""
    asked = select(artifact.c.sha256, artifact.c.created).where(
        artifact.c.state == "deleting", artifact.c.created <= wall - GRACE
    )
    rows = database.read(lambda c: c.execute(asked).all())
    for row in rows:  # a crash may have come before the file was deleted
        _unlink(root, row.sha256, before=row.created)
    gone = artifact.c.sha256.in_([row.sha256 for row in rows])
    database.write_now(lambda c: c.execute(delete(artifact).where(gone)).rowcount)


def _unlink(root: Path, sha256: str, before: float | None) -> bool:
    """Delete a file, unless it was written again meanwhile."""
    path = path_of(root, sha256)
    with _guarded(root, alone=True):
        try:
            if before is not None and path.stat().st_mtime >= before:
                return False
            _signed_beside(path).unlink(missing_ok=True)  # first: it is never without the other
            path.unlink()
        except FileNotFoundError:
            return True
    return True


def _files(root: Path) -> Iterator[Path]:
    return (path for path in root.glob("*/*/*") if _SHA256.fullmatch(path.name))


@contextmanager
def _guarded(root: Path, *, alone: bool) -> Iterator[None]:
    """Between the look at a file and its deletion nobody finds that it is there already."""
    root.mkdir(parents=True, exist_ok=True)
    if os.name != "posix":
        yield
        return
    import fcntl

    handle = os.open(root / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)
