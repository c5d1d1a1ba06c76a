"""The power goes at any moment: what was synced is there, of the rest any part in any order.

A run of the store and of the artifacts is taped in a process of its own (`tape.py`). Each cut
stops the tape at a random record and lays the folder out anew: of a file of the database, all
before its last sync, and of what came after any sectors, half of them; of an artifact, its name
only where every folder above was synced with it, its bytes only as they were synced.
"""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from diptych.service import artifacts
from diptych.service.jobs.database import Database
from tests.service.jobs.tape import shared_sqlite

CUTS = 100
SECTOR = 512
Tape = list[tuple[Any, ...]]
Folders = dict[str, dict[str, int]]


@dataclass
class Disk:
    """`synced` bytes of the database's files, and what was written `since`."""

    synced: dict[str, bytearray] = field(default_factory=dict)
    since: dict[str, Tape] = field(default_factory=dict)
    inodes: dict[int, bytes] = field(default_factory=dict)
    folders: Folders = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    complete: set[str] = field(default_factory=set)

    def take(self, record: tuple[Any, ...]) -> None:
        kind, what = record[0], record[1]
        if kind in ("write", "truncate"):
            self.since.setdefault(what, []).append(record)
        elif kind == "sync":
            content = self.synced.setdefault(what, bytearray())
            for one in self.since.pop(what, ()):
                _done(content, one)
        elif kind == "file":
            self.inodes[what] = record[2]
        elif kind == "folder":
            self.folders[what] = record[2]
        else:
            (self.accepted if kind == "accepted" else self.complete).add(what)


def _done(content: bytearray, record: tuple[Any, ...]) -> None:
    if record[0] == "truncate":
        del content[record[2] :]
        return
    _, _, offset, data = record
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _torn(records: Tape, random: Random) -> Tape:
    """Half of the sectors, in any order: what a drive makes of writes that nobody synced."""
    sectors: Tape = []
    for one in records:
        if one[0] == "truncate":
            sectors.append(one)
            continue
        _, name, offset, data = one
        at = 0
        while at < len(data):
            size = SECTOR - (offset + at) % SECTOR
            sectors.append(("write", name, offset + at, data[at : at + size]))
            at += size
    kept = [one for one in sectors if random.random() < 0.5]
    if random.random() < 0.5:
        random.shuffle(kept)
    return kept


def laid_out(disk: Disk, data: str, to: Path, random: Random) -> None:
    """The folder as it is found after a cut."""
    drops = random.random() < 0.5
    for name in ("jobs.db", "jobs.db-wal"):
        if name not in disk.synced:
            continue
        content = bytearray(disk.synced[name])
        for one in [] if drops else _torn(disk.since.get(name, []), random):
            _done(content, one)
        (to / name).write_bytes(content)
    parent, _, name = data.rpartition("/")
    if name in disk.folders.get(parent, {}) and "artifacts" in disk.folders.get(data, {}):
        _files(disk, f"{data}/artifacts", to / "artifacts")


def _files(disk: Disk, folder: str, to: Path) -> None:
    to.mkdir()
    for name, inode in disk.folders.get(folder, {}).items():
        if f"{folder}/{name}" in disk.folders:
            _files(disk, f"{folder}/{name}", to / name)
        elif inode in disk.inodes:
            (to / name).write_bytes(disk.inodes[inode])


def recovered(folder: Path, disk: Disk) -> list[str]:
    """What is wrong with a folder, opened as a server opens it."""
    wrong: list[str] = []
    with closing(Database.open(folder)) as database:
        said = database.read(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar())
        rows = dict(database.read(lambda c: c.exec_driver_sql("SELECT id, status FROM job").all()))
        ties = database.read(lambda c: c.exec_driver_sql("SELECT sha256 FROM job_artifact").all())
    wrong += [] if said == "ok" else [f"integrity: {said}"]
    wrong += [f"{one} is lost" for one in disk.accepted - rows.keys()]
    wrong += [f"{one} is not complete" for one in disk.complete if rows.get(one) != "complete"]
    for (sha256,) in ties:
        if artifacts.read(folder / "artifacts", sha256) is None:
            wrong.append(f"artifact {sha256} is not whole")
    return wrong


def cuts(tape: Tape, number: int, random: Random) -> Iterator[Disk]:
    """The disk at random records after the first acknowledgement."""
    first = next(i for i, one in enumerate(tape) if one[0] == "accepted")
    moments = sorted(random.randrange(first, len(tape)) for _ in range(number))
    disk, at = Disk(), 0
    for moment in moments:
        while at <= moment:
            disk.take(tape[at])
            at += 1
        yield disk


def broken(tape: Tape, data: Path, to: Path, number: int = CUTS, seed: int = 5) -> list[str]:
    found: list[str] = []
    random = Random(seed)
    for i, disk in enumerate(cuts(tape, number, random)):
        folder = to / str(i)
        folder.mkdir()
        laid_out(disk, str(data), folder, random)
        found += recovered(folder, disk)
    return found


@pytest.fixture(scope="module")
def taped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tape, Path]:
    if not shared_sqlite():
        pytest.skip("Python has a SQLite of its own inside, whose calls cannot be taken")
    base = tmp_path_factory.mktemp("tape")
    command = [sys.executable, str(Path(__file__).with_name("tape.py"))]
    subprocess.run([*command, str(base / "data"), str(base / "tape")], check=True, timeout=60)
    return pickle.loads((base / "tape").read_bytes()), base / "data"


def test_what_was_acknowledged_survives_every_cut(taped: tuple[Tape, Path], tmp_path: Path):
    tape, data = taped
    # The tape holds what it must: syncs of the log at each commit, and checkpoints into the file.
    kinds = [one[:2] for one in tape]
    assert kinds.count(("sync", "jobs.db-wal")) >= 400 and kinds.count(("sync", "jobs.db")) >= 3
    assert broken(tape, data, tmp_path) == []


def _without(what: tuple[str, ...]) -> Callable[[Tape], Tape]:
    return lambda tape: [one for one in tape if one[: len(what)] != what]


LIARS: Sequence[tuple[str, Callable[[Tape], Tape], str]] = (
    ("the log is not synced", _without(("sync", "jobs.db-wal")), "is lost"),
    ("files are not synced", _without(("file",)), "not whole"),
    ("folders are not synced", _without(("folder",)), "not whole"),
    ("the root's name is not synced", lambda tape: _but_root(tape), "not whole"),
    (
        "told before it is written",
        lambda tape: _early(tape),
        "is lost",
    ),
)


def _but_root(tape: Tape) -> Tape:
    """As it was: nobody synced the folder that the folder of artifacts is in."""
    return [one for one in tape if not (one[0] == "folder" and "artifacts" in one[2])]


def _early(tape: Tape) -> Tape:
    """Each acknowledgement of a job goes before the writes of its commit."""
    made: Tape = []
    for one in tape:
        if one[0] == "accepted":
            at = len(made)
            while at and made[at - 1][0] in ("write", "sync", "truncate"):
                at -= 1
            made.insert(at, one)
        else:
            made.append(one)
    return made


@pytest.mark.parametrize(("name", "lie", "says"), LIARS, ids=[one[0] for one in LIARS])
def test_a_store_that_does_less_is_caught(
    taped: tuple[Tape, Path], tmp_path: Path, name: str, lie: Callable[[Tape], Tape], says: str
):
    tape, data = taped
    found = broken(lie(tape), data, tmp_path, number=12)
    assert any(says in one for one in found), (name, found[:3])


def test_the_same_bytes_under_a_hash(taped: tuple[Tape, Path]):
    """The tape's own files: what was synced under a name hashes to it."""
    tape, _ = taped
    inodes = {one[1]: one[2] for one in tape if one[0] == "file"}
    named = {k: v for one in tape if one[0] == "folder" for k, v in one[2].items() if len(k) == 64}
    assert named and all(hashlib.sha256(inodes[v]).hexdigest() == k for k, v in named.items())
