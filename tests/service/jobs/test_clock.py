"""The clock of the wall is set an hour forward or back: no lease ends by it, and none is longer."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from diptych.service import desk
from diptych.service.api.hub import Hub
from diptych.service.desk import LEASE, Desk
from diptych.service.jobs import tidying
from diptych.service.jobs.database import Database
from tests.service.jobs.asking import ask, kinds, row

HOUR = 3600.0


async def _nothing(*_: Any) -> None:
    return None


def seated(database: Database) -> Desk:
    return Desk(database, Hub(), lambda _: None, lambda *_: None, _nothing, lambda _: None)


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_46_leases_know_no_wall_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float):
    wall, steady = [1e9], [500.0]
    clock = SimpleNamespace(
        time=lambda: wall[0], clock_gettime=lambda _: steady[0], CLOCK_BOOTTIME=7, CLOCK_MONOTONIC=1
    )
    monkeypatch.setattr(desk, "time", clock)
    with closing(Database.open(tmp_path)) as database:
        (job_id,) = ask(database)
        front = seated(database)
        said = asyncio.run(front.answer({"call": "claim", "busy": False}))["row"]
        assert said["id"] == job_id and row(database, job_id).lease_until == 500.0 + LEASE
        wall[0] += jump
        steady[0] += 1.0
        # It is not lost by the jump, and a renewal counts from the steady clock.
        assert not database.write_now(lambda c: tidying.reap(c, desk.steady(), wall[0]))
        told = {"call": "renew", "told": [[job_id, said["fence"], 2]]}
        assert asyncio.run(front.answer(told)) == {job_id: "held"}
        assert row(database, job_id).lease_until == 501.0 + LEASE
        # When the worker falls silent, it ends as if nothing had been.
        steady[0] += LEASE + 1.0
        assert database.write_now(lambda c: tidying.reap(c, desk.steady(), wall[0]))
        assert kinds(database, job_id) == ["queued", "started", "retried"]


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_46_a_job_that_waits_is_claimed_when_its_steady_time_comes(tmp_path: Path, jump: float):
    with closing(Database.open(tmp_path)) as database:
        (job_id,) = ask(database)
        front = seated(database)
        said = asyncio.run(front.answer({"call": "claim", "busy": False}))["row"]
        back = {"id": job_id, "fence": said["fence"], "delay": 5.0, "refund": False}
        asyncio.run(front.answer({"call": "put_back", **back}))
        waits = row(database, job_id).not_before - desk.steady()
        assert 0.0 < waits <= 5.0
        with pytest.MonkeyPatch.context() as patch:
            now = desk.time.time()
            patch.setattr(desk.time, "time", lambda: now + jump)
            assert asyncio.run(front.answer({"call": "claim", "busy": False}))["row"] is None
