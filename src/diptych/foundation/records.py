"""`run.json`: what was run, on what, with what, so that a result can be made again."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any, cast

from diptych.foundation.errors import NotFound, Unreadable
from diptych.foundation.files import write_whole
from diptych.foundation.version import __version__

NAME = "run.json"


def start_record(config: object, *, seed: int, command: list[str] | None = None) -> dict[str, Any]:
    """A record of a run that begins now.

    `config` is a dataclass or a dict, as it was resolved; `command` defaults to the process's.
    `commit` is null outside a checkout of this repository, and ends in `+` when the checkout
    has changes that no commit holds. `finished` is null until `finish_record`.
    """
    from diptych.foundation.config import to_json

    return {
        "config": config if isinstance(config, dict) else to_json(config),
        "seed": seed,
        "command": shlex.join(sys.argv if command is None else command),
        "version": __version__,
        "commit": _commit(),
        "torch": _installed("torch"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "started": _now(),
        "finished": None,
    }


def finish_record(record: dict[str, Any], **results: Any) -> dict[str, Any]:
    """The record with its end and its results."""
    return {**record, **results, "finished": _now()}


def write_record(folder: str | PathLike[str], record: dict[str, Any]) -> Path:
    """Write `run.json` into a folder, whole or not at all. Raises NotWritten."""
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    return write_whole(Path(folder) / NAME, text + "\n")


def read_record(folder: str | PathLike[str]) -> dict[str, Any]:
    """Read `run.json` of a folder. Raises NotFound, or Unreadable when it is not an object."""
    path = Path(folder) / NAME
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise NotFound(
            f"There is no {NAME} in {str(folder)!r}.", do="Name a run folder."
        ) from error
    except (OSError, ValueError) as error:
        raise Unreadable(f"{str(path)!r} is no run record: {error}.") from error
    if not isinstance(record, dict):
        raise Unreadable(f"{str(path)!r} is no run record: it holds no object.")
    return cast(dict[str, Any], record)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}+" if changed else head


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()
