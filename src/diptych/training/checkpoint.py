"""Checkpoints: a folder is there whole or not at all, and `latest` names the one to go on from.

    checkpoints/0000400/  model.safetensors  average.safetensors  optimizer.safetensors  state.json
    checkpoints/latest    "0000400", written last

Rates, data order and randomness are functions of the step, so that the step says them all.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from diptych.foundation.errors import InvalidValue, NotWritten, Unreadable
from diptych.foundation.files import write_whole
from diptych.training.plan import FREE

KEPT = 2
_FOLDER, _POINTER, _STATE = "checkpoints", "latest", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """`tensors`: file name -> name -> tensor; `state`: JSON values, with `step` among them."""

    tensors: Mapping[str, dict[str, Tensor]]
    state: dict[str, Any]

    @property
    def step(self) -> int:
        return self.state["step"]


def save(run: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint of the run and forget all but the last two. Raises NotWritten.

    A process that dies in here leaves the earlier checkpoint as it was.
    """
    folder = run / _FOLDER
    target = folder / f"{checkpoint.step:07d}"
    if _pointed(run) == target:
        return target  # the same step of the same plan: the same bytes
    unfinished = folder / f".{target.name}.part"
    try:
        _remove(unfinished)
        _remove(target)  # renamed by a process that died before it could point there
        unfinished.mkdir(parents=True)
        _fill(unfinished, checkpoint)
        unfinished.rename(target)
        _sync(folder)
        write_whole(folder / _POINTER, target.name + "\n")
        _forget(folder, keep=target)
    except (OSError, SafetensorError) as error:
        _remove(unfinished)
        raise NotWritten(
            f"Cannot save a checkpoint in {str(folder)!r}: {error}.",
            do="Free some space, then repeat the command: the earlier checkpoint is whole.",
        ) from error
    return target


def latest(run: Path) -> Checkpoint | None:
    """The checkpoint to go on from, or none. Raises Unreadable when its files are damaged."""
    folder = _pointed(run)
    if folder is None:
        return None
    try:
        state = json.loads((folder / _STATE).read_text())
        tensors = {file.stem: load_file(file) for file in sorted(folder.glob("*.safetensors"))}
    except (OSError, ValueError, SafetensorError) as error:
        raise Unreadable(
            f"The checkpoint {str(folder)!r} is damaged: {error}.",
            do=f"Write the name of an earlier folder into {str(folder.parent / _POINTER)!r}, "
            "or start in a new run folder.",
        ) from error
    return Checkpoint(tensors, state)


def bound(config: Mapping[str, Any], parameters: Mapping[str, Tensor]) -> dict[str, Any]:
    """What must stay the same for a run to go on: dotted key -> value."""
    flat = {
        key: value
        for key, value in _flat(config)
        if not (key.startswith("training.") and key.partition(".")[2] in FREE)
    }
    flat["model's parameters"] = {name: list(p.shape) for name, p in parameters.items()}
    return flat


def refuse_other_plan(run: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises InvalidValue when the run was begun with another plan, and names the differences."""
    # JSON has no tuples: compare what both sides are as JSON.
    now = json.loads(json.dumps(now))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if not changed:
        return
    said = [
        key
        if isinstance(now.get(key), dict)
        else f"{key} {before.get(key)!r}, not {now.get(key)!r}"
        for key in changed[:5]
    ]
    raise InvalidValue(
        f"The run in {str(run)!r} was begun with another plan: {'; '.join(said)}.",
        do="Go on with the same values, or choose another folder by --run.",
    )


def _flat(values: Mapping[str, Any], at: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        place = f"{at}{key}"
        pairs += _flat(value, f"{place}.") if isinstance(value, Mapping) else [(place, value)]
    return pairs


def _pointed(run: Path) -> Path | None:
    folder = run / _FOLDER
    try:
        name = (folder / _POINTER).read_text().strip()
    except FileNotFoundError:
        return None
    return folder / name


def _fill(folder: Path, checkpoint: Checkpoint) -> None:
    for name, tensors in checkpoint.tensors.items():
        plain = {key: value.detach().contiguous() for key, value in tensors.items()}
        save_file(plain, folder / f"{name}.safetensors")
    (folder / _STATE).write_text(json.dumps(checkpoint.state, indent=1))
    for file in folder.iterdir():
        _sync(file)
    _sync(folder)


def _forget(folder: Path, *, keep: Path) -> None:
    """Leave the last checkpoints up to `keep`, and nothing unfinished."""
    whole = sorted(path for path in folder.iterdir() if path.is_dir() and path.name.isdigit())
    last = [path for path in whole if path.name <= keep.name][-KEPT:]
    for path in folder.iterdir():
        if path.is_dir() and path not in last:
            _remove(path)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _sync(path: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
