"""One process at a time trains in a run folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diptych.foundation.errors import InvalidValue


@contextmanager
def alone(run: Path) -> Iterator[None]:
    """Holds the folder; the system lets it go when the process ends, however it ends.

    Raises InvalidValue while another process holds it. To be entered after the workers that
    prepare batches were forked: they would hold it too, and outlive a killed training a little.
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    run.mkdir(parents=True, exist_ok=True)
    handle = os.open(run / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidValue(
                f"Another process is training in {str(run)!r}.",
                do="Wait for it, stop it, or choose another folder by --run.",
            ) from None
        yield
    finally:
        os.close(handle)
