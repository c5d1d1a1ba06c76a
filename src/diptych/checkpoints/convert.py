"""A pickle made into safetensors, without trust in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

from diptych.foundation.errors import InvalidValue, NotFound, Unreadable
from diptych.foundation.files import write_with

_MEGABYTE = 1 << 20
_ROOM = 3000  # megabytes of address space for PyTorch itself


class Converted(NamedTuple):
    """The written file, how many tensors it holds, and the names of what was left out."""

    path: Path
    tensors: int
    left: tuple[str, ...]


def convert(source: Path, out: Path) -> Converted:
    """Copy the tensors of a .ckpt, .pt, .pth or .bin into a .safetensors file.

    The file is opened by PyTorch's weights-only loader, which builds tensors and runs nothing, in
    a process of its own with limits on memory (three times the file and what PyTorch needs), CPU
    time and, where the system allows it, no network. Written whole or not at all. Raises NotFound,
    InvalidValue, Unreadable, NotWritten.
    """
    if not source.is_file():
        raise NotFound(f"There is no file {str(source)!r}.")
    if out.suffix != ".safetensors":
        raise InvalidValue(f"{str(out)!r} is no .safetensors file.", do="Name one with -o.")
    if out.exists():
        raise InvalidValue(f"{str(out)!r} is there already.", do="Name another with -o.")
    _refuse_bombs(source)
    said: dict[str, object] = {}

    def write(temporary: Path) -> None:
        said.update(_in_a_process(source, temporary))

    path = write_with(out, write)
    left = said["left"]
    assert isinstance(left, list)
    return Converted(path, int(str(said["tensors"])), tuple(map(str, left)))


def _in_a_process(source: Path, out: Path) -> dict[str, object]:
    size = source.stat().st_size // _MEGABYTE
    seconds = 60 + size // 20
    limits = [str(seconds), str(_ROOM + 3 * size)]
    # -P: else `-m` imports from the current folder first, which is where downloads lie.
    command = [sys.executable, "-P", "-m", "diptych.checkpoints.unpickle", str(source), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [*command, *limits], capture_output=True, text=True, timeout=10 * seconds,
            env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Unreadable(f"{str(source)!r} was not read within its time.") from error
    lines = done.stdout.strip().splitlines()
    said = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    if done.returncode or "tensors" not in said:
        why = said.get("error") or _of_a_dead(done)
        raise Unreadable(
            f"{str(source)!r} is not converted: {why}.",
            do="Only tensors are taken from it; ask its author for safetensors.",
        )
    return said


def _of_a_dead(done: subprocess.CompletedProcess[str]) -> str:
    """Why a process that said nothing ended: a signal is the system's word for a limit."""
    lines = done.stderr.strip().splitlines()
    if done.returncode < 0 or not lines:
        return "its process came to its limits of memory or time"
    return f"its process failed: {lines[-1][:200]}"


def _refuse_bombs(source: Path) -> None:
    """PyTorch packs tensors without compressing them: a file that grows is none of its."""
    if not zipfile.is_zipfile(source):
        return
    try:
        with zipfile.ZipFile(source) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise Unreadable(f"{str(source)!r} is no whole archive: {error}.") from error
    if size > source.stat().st_size + _MEGABYTE:
        raise Unreadable(
            f"{str(source)!r} would grow to {size / _MEGABYTE:,.0f} MB when opened.",
            do="It is no file of PyTorch's.",
        )
