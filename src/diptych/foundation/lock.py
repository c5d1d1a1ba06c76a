"""One process at a time writes in a place."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from diptych.foundation.errors import InvalidValue


@contextmanager
def held(path: Path, what: str, do: str) -> Generator[None, None, None]:
    """Holds a lock file; the system lets it go when the process ends, however it ends.

    Raises InvalidValue with `what` and `do` while another process holds it.
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidValue(what, do=do) from None
        yield
    finally:
        os.close(handle)
