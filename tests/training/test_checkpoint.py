"""A checkpoint folder is there whole or not at all."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from diptych.foundation.errors import NotWritten, Unreadable
from diptych.training.checkpoint import Checkpoint, latest, save


def checkpoint(step: int, size: int = 10) -> Checkpoint:
    weights = torch.full((size,), float(step))
    return Checkpoint({"model": {"w": weights}}, {"step": step, "means": {"sums": {"a": 0.1}}})


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_what_is_saved_comes_back(tmp_path: Path):
    assert latest(tmp_path) is None
    save(tmp_path, checkpoint(3))
    found = latest(tmp_path)
    assert found is not None
    assert found.state == checkpoint(3).state
    assert torch.equal(found.tensors["model"]["w"], torch.full((10,), 3.0))


def test_the_last_two_are_kept_and_unfinished_ones_removed(tmp_path: Path):
    for step in (1, 2, 3):
        save(tmp_path, checkpoint(step))
    (tmp_path / "checkpoints" / ".0000009.part").mkdir()
    # Renamed, but the process died before it could point there: the run goes on from 3.
    (tmp_path / "checkpoints" / "0000004").mkdir()
    found = latest(tmp_path)
    assert found is not None and found.step == 3
    save(tmp_path, checkpoint(4))
    assert names(tmp_path) == ["0000003", "0000004", "latest"]
    found = latest(tmp_path)
    assert found is not None and found.step == 4


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path: Path):
    save(tmp_path, checkpoint(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # no file may grow beyond
    try:
        with pytest.raises(NotWritten, match="earlier checkpoint is whole"):
            save(tmp_path, checkpoint(2, size=1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["0000001", "latest"]
    found = latest(tmp_path)
    assert found is not None and found.step == 1


def test_a_damaged_checkpoint_is_said_to_be_one(tmp_path: Path):
    file = save(tmp_path, checkpoint(1)) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(Unreadable, match=r"0000001.* is damaged"):
        latest(tmp_path)
