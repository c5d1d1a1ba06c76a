"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from diptych.foundation.errors import NotWritten


def write_whole(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Write a file so that a reader sees the old content or the new, never a part.

    Raises NotWritten when the disk refuses; the old file is then untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    return write_with(path, lambda temporary: temporary.write_bytes(data))


def write_with(path: str | os.PathLike[str], write: Callable[[Path], object]) -> Path:
    """Like `write_whole` for a library that wants a path: `write` fills a temporary sibling."""
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotWritten(
            f"Cannot write {str(path)!r}: {reason}.",
            do="Free some space or choose another place; nothing was changed.",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def sync_folder(folder: Path) -> None:
    """Make what a folder holds, by name, outlive a power cut. Raises OSError."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
