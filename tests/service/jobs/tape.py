"""Records what a run of the store writes and syncs, in the order in which it reached the kernel.

The database's calls are taken at SQLite's own border to the system: its default VFS (file layer,
sqlite.org/vfs.html) is copied, and the files that it opens get writes, truncations and syncs that
are noted before they are done. That needs the library that Python's driver itself is linked to.
The artifacts' calls are `os.fsync` and `os.replace`. Run as a program: `tape.py FOLDER OUT`.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import re
import stat
import sys
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

WALL = 1e9
JOBS = 240


def shared_sqlite() -> str:
    """The path of the library that this process has loaded for `sqlite3`; empty where it is
    inside Python."""
    import sqlite3

    sqlite3.connect(":memory:").close()
    maps = Path("/proc/self/maps")
    found = re.search(r"/\S*libsqlite3\S*", maps.read_text()) if maps.exists() else None
    return found[0] if found else ""


# SQLite keeps the pointer to the name: it must go through as it came, never as a copy.
OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, POINTER(c_int))
WRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
SYNC = CFUNCTYPE(c_int, c_void_p, c_int)


class Vfs(Structure):
    _fields_ = (
        ("version", c_int), ("size", c_int), ("path", c_int), ("next", c_void_p),
        ("name", c_char_p), ("data", c_void_p), ("open", OPEN), ("rest", c_void_p * 16),
    )  # fmt: skip


class Methods(Structure):
    _fields_ = (
        ("version", c_int), ("close", c_void_p), ("read", c_void_p), ("write", WRITE),
        ("truncate", TRUNCATE), ("sync", SYNC), ("rest", c_void_p * 13),
    )  # fmt: skip


def _name(pointer: int | None) -> str:
    return Path(ctypes.string_at(pointer).decode()).name if pointer else ""


class Recorder:
    """The tape. Records: (write, file, offset, bytes), (truncate, file, size), (sync, file),
    (file, inode, bytes), (folder, path, {name: inode}), (accepted, id), (complete, id)."""

    def __init__(self) -> None:
        self.tape: list[tuple[Any, ...]] = []
        self.names: dict[int, str] = {}
        self.kept: list[Any] = []  # what C points to

    def hook_sqlite(self, library: str) -> None:
        lib = ctypes.CDLL(library)
        lib.sqlite3_vfs_find.restype = POINTER(Vfs)
        real = lib.sqlite3_vfs_find(None)
        mine = Vfs.from_buffer_copy(real.contents)
        mine.name = b"tape"
        tables: dict[int, Methods] = {}

        def opened(_: int, name: int | None, file: int, flags: int, out: Any) -> int:
            code = real.contents.open(ctypes.addressof(real.contents), name, file, flags, out)
            slot = ctypes.cast(file, POINTER(c_void_p))
            if code == 0 and slot[0]:
                self.names[file] = _name(name)
                if slot[0] not in tables:
                    tables[slot[0]] = self._noted(slot[0])
                slot[0] = ctypes.addressof(tables[slot[0]])
            return code

        mine.open = OPEN(opened)
        self.kept += [mine, tables, opened]
        assert lib.sqlite3_vfs_register(ctypes.byref(mine), 1) == 0

    def _noted(self, address: int) -> Methods:
        methods = Methods.from_buffer_copy((ctypes.c_char * ctypes.sizeof(Methods)).from_address(
            address
        ))  # fmt: skip
        real = Methods.from_buffer_copy(methods)

        def write(file: int, data: int, size: int, offset: int) -> int:
            self.tape.append(("write", self.names[file], offset, ctypes.string_at(data, size)))
            return real.write(file, data, size, offset)

        def truncate(file: int, size: int) -> int:
            self.tape.append(("truncate", self.names[file], size))
            return real.truncate(file, size)

        def sync(file: int, flags: int) -> int:
            code = real.sync(file, flags)
            self.tape.append(("sync", self.names[file]))
            return code

        methods.write, methods.truncate, methods.sync = WRITE(write), TRUNCATE(truncate), SYNC(sync)
        self.kept += [real, methods]
        return methods

    def hook_files(self) -> None:
        """Syncs of files and folders: what is in them then is durable, and nothing else."""
        real = os.fsync

        def fsync(handle: int) -> None:
            real(handle)
            path, status = Path(f"/proc/self/fd/{handle}").readlink(), os.fstat(handle)
            if stat.S_ISDIR(status.st_mode):
                names = {one.name: one.inode() for one in os.scandir(path)}
                self.tape.append(("folder", str(path), names))
            else:
                self.tape.append(("file", status.st_ino, path.read_bytes()))

        os.fsync = fsync


def main(folder: Path, out: Path) -> None:
    recorder = Recorder()
    recorder.hook_sqlite(shared_sqlite())
    recorder.hook_files()
    from diptych.service import artifacts
    from diptych.service.jobs import store
    from diptych.service.jobs.accepting import Wanted, accept
    from diptych.service.jobs.database import Database
    from diptych.service.jobs.store import Stored

    database = Database.open(folder)
    for number in range(JOBS):
        wanted = Wanted(kind="paint", spec={"prompt": "x" * 4000, "seed": number}, cost=1.0)
        job_id = database.write_now(lambda c, w=wanted: accept(c, "local", [w], WALL).ids)[0]
        recorder.tape.append(("accepted", job_id))
        if number % 3:
            continue
        row = database.write_now(lambda c: store.claim(c, 0.0, WALL, 30.0)).row
        assert row is not None
        picture = b"%d" % number * 900
        sha = artifacts.put(folder / "artifacts", picture, "image/png")
        made = [Stored(sha, "image/png", len(picture))]
        done = database.write_now(
            lambda c, r=row, m=made: store.complete(c, r["id"], r["fence"], {}, m, WALL)
        )
        assert done is not None
        recorder.tape.append(("complete", row["id"]))
    out.write_bytes(pickle.dumps(recorder.tape))
    os._exit(0)  # what a tidy end would still write is no part of the tape


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
