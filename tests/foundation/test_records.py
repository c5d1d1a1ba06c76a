"""A run record says what was run and survives the disk."""

from __future__ import annotations

from datetime import datetime

import pytest

from diptych.foundation.errors import NotFound, Unreadable
from diptych.foundation.records import (
    NAME,
    finish_record,
    read_record,
    start_record,
    write_record,
)


def test_record_round_trip(tmp_path):
    started = start_record({"width": 8}, seed=7, command=["diptych", "train", "a name"])
    done = finish_record(started, score=0.5)
    write_record(tmp_path, started)
    write_record(tmp_path, done)
    read = read_record(tmp_path)
    assert read == done
    assert read["command"] == "diptych train 'a name'"
    assert (read["seed"], read["config"], read["score"]) == (7, {"width": 8}, 0.5)
    assert started["finished"] is None
    assert datetime.fromisoformat(read["started"]) <= datetime.fromisoformat(read["finished"])
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_the_installed_torch_is_named_without_loading_it():
    import torch

    assert start_record({}, seed=0)["torch"] == torch.__version__


def test_missing_and_broken_records_are_told_apart(tmp_path):
    with pytest.raises(NotFound):
        read_record(tmp_path)
    for broken in ("", "[1]", '{"seed": '):
        (tmp_path / NAME).write_text(broken)
        with pytest.raises(Unreadable):
            read_record(tmp_path)


def test_what_is_not_json_is_never_written(tmp_path):
    with pytest.raises(ValueError):
        write_record(tmp_path, {"loss": float("nan")})
    assert not list(tmp_path.iterdir())
