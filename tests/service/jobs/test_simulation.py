"""Thousands of histories of a whole service, each by its seed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import Engine

from diptych.service.jobs import machine
from diptych.service.jobs.database import Database
from tests.service.jobs.simulation import Broken, run


@pytest.fixture
def engine() -> Iterator[Engine]:
    with closing(Database.in_memory()) as database:
        yield database._writer


def histories(engine: Engine, seeds: range) -> None:
    began = time.perf_counter()
    for seed in seeds:
        try:
            run(engine, seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    print(f"{len(seeds) / (time.perf_counter() - began):.0f} histories a second")


def test_300_histories(engine: Engine):
    histories(engine, range(300))


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("tenth", range(10))
def test_10_000_histories(engine: Engine, tenth: int):
    histories(engine, range(1000 + 1000 * tenth, 2000 + 1000 * tenth))


def test_without_the_fence_a_late_word_breaks_it(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "holds", lambda job, fence: job.status == "running")
    with pytest.raises(Broken, match="I4"):
        for seed in range(300):
            run(engine, seed)
