"""What a store must do, whichever database is below it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from diptych.service.jobs import machine, store
from diptych.service.jobs.database import Database
from diptych.service.jobs.machine import Change, Job
from diptych.service.jobs.store import Progress
from tests.service.jobs.asking import STEPS, Call, F, ask, claim, kinds, row

TABLE = [  # before | step | status after, None for refused | of the row then
    ("", "claim", "running", {"fence": 1, "attempt": 1, "lease_until": 30.0}),
    ("", "cancel", "canceled", {"ended": 1001.0}),
    ("", "hold", "queued", {"held": True}),
    ("", "release", None, {}),
    ("", "expire", "failed", {"error": "expired"}),
    ("", "complete", None, {}),
    ("hold", "claim", None, {}),
    ("hold", "release", "queued", {"held": False}),
    ("hold", "cancel", "canceled", {}),
    ("claim", "claim", None, {}),
    ("claim", "complete", "complete", {"result": {"seed": 1}, "lease_until": 0.0}),
    ("claim", "fail", "failed", {"error": "out-of-memory", "detail": "too large"}),
    ("claim", "put back", "queued", {"not_before": 50.0, "attempt": 1, "fence": 1}),
    ("claim", "drain", "queued", {"attempt": 0}),
    ("claim", "checkpointed", "running", {"step": 3, "lease_until": 60.0}),
    ("claim", "cancel", "running", {"cancel_asked": True}),
    ("claim", "canceled", None, {}),
    ("claim", "hold", None, {}),
    ("claim", "expire", None, {}),
    ("claim", "early", None, {}),
    ("claim", "late", "queued", {"fence": 2, "crashes": 1, "solo": True}),
    ("claim", "dead", "queued", {"fence": 2, "crashes": 1, "solo": True}),
    ("claim", "restart", "queued", {"fence": 2, "crashes": 0, "solo": False}),
    ("claim cancel", "complete", None, {}),
    ("claim cancel", "cancel", None, {}),
    ("claim cancel", "canceled", "canceled", {}),
    ("claim cancel", "fail", "canceled", {"error": ""}),
    ("claim cancel", "put back", "canceled", {}),
    ("claim cancel", "dead", "canceled", {"fence": 2}),
    ("claim dead claim dead claim", "dead", "failed", {"error": "poison", "crashes": 3}),
    ("claim dead claim", "dead", "queued", {"crashes": 2}),
    *(("claim complete", step, None, {}) for step in STEPS),
    *(("claim fail", step, None, {}) for step in STEPS),
    *(("cancel", step, None, {}) for step in STEPS),
]


@pytest.mark.parametrize(("before", "step", "status", "then"), TABLE)
def test_a_transition(
    database: Database, before: str, step: str, status: str | None, then: dict[str, Any]
):
    (job_id,) = ask(database, deadline=2000.0)
    for name in before.split():
        fence = row(database, job_id).fence
        assert database.write_now(lambda c, n=name, f=fence: STEPS[n](c, job_id, f)), name
    was = row(database, job_id)
    moved = database.write_now(lambda c: STEPS[step](c, job_id, was.fence))
    now = row(database, job_id)
    if status is None:
        assert moved is None and now == was
    else:
        assert moved is not None and moved.job.status == now.status == status
        assert {name: now._mapping[name] for name in then} == then
    assert len(kinds(database, job_id)) == now.rev
    assert now.rev == was.rev + (status is not None)


@pytest.mark.parametrize("step", ["complete", "fail", "put back", "canceled", "checkpointed"])
def test_a_worker_taken_for_dead_changes_nothing(database: Database, step: str):
    (job_id,) = ask(database)
    for name in ("claim", "dead", "claim", "cancel"):
        database.write_now(lambda c, n=name: STEPS[n](c, job_id, F))
    was = row(database, job_id)
    for fence in (0, 1, 2, 4):
        assert database.write_now(lambda c, f=fence: STEPS[step](c, job_id, f)) is None
    assert row(database, job_id) == was and was.fence == 3
    told = [Progress(job_id, 1, 5), Progress(job_id, 3, 6), Progress("none", 1, 1)]
    answers = [database.write_now(lambda c, t=one: store.renew(c, [t], 90.0, 0.0)) for one in told]
    assert answers == [{job_id: "lost"}, {job_id: "cancel"}, {"none": "lost"}]
    assert (row(database, job_id).step, row(database, job_id).lease_until) == (6, 90.0)


def test_a_job_that_must_run_alone_is_not_overtaken(database: Database):
    first, second = ask(database, number=2)
    database.write_now(lambda c: STEPS["claim"](c, first, 0))
    database.write_now(lambda c: STEPS["dead"](c, first, 1))
    assert claim(database, busy=True) == store.Claimed(wait=True)
    for expected in (first, second):
        moved = claim(database).moved
        assert moved is not None and moved.id == expected


# --- the store is the machine ---------------------------------------------------------------------

RULES: list[tuple[Call, Callable[[Job, int], Change | None]]] = [
    (STEPS["complete"], machine.complete),
    (STEPS["fail"], lambda j, f: machine.fail(j, f, "out-of-memory")),
    (STEPS["put back"], lambda j, f: machine.put_back(j, f, 50.0, refund=False)),
    (STEPS["drain"], lambda j, f: machine.put_back(j, f, 0.0, refund=True)),
    (STEPS["canceled"], machine.canceled),
    (STEPS["checkpointed"], lambda j, f: machine.checkpointed(j, f, 60.0)),
    (STEPS["cancel"], lambda j, f: machine.cancel(j)),
    (STEPS["hold"], lambda j, f: machine.hold(j, True)),
    (STEPS["release"], lambda j, f: machine.hold(j, False)),
    (STEPS["dead"], lambda j, f: machine.reap(j, j.fence, 0.0, dead=True)),
    (STEPS["late"], lambda j, f: machine.reap(j, j.fence, 31.0)),
    (STEPS["expire"], lambda j, f: machine.expire(j, 2001.0)),
    *[(STEPS["claim"], lambda j, f: machine.claim(j, 0.0, 30.0))] * 4,
]


@pytest.mark.parametrize("seed", range(15))
def test_the_store_does_what_the_machine_says(database: Database, seed: int):
    dice = random.Random(seed)
    deadline = dice.choice((0.0, 2000.0))
    (job_id,) = ask(database, deadline=deadline)
    job_now = Job(deadline=deadline)
    for _ in range(30):
        call, rule = dice.choice(RULES)
        fence = max(0, job_now.fence - dice.choice((0, 0, 0, 1)))
        moved = database.write_now(lambda c, r=call, f=fence: r(c, job_id, f))
        change = rule(job_now, fence)
        assert (moved is None) == (change is None)
        if change is not None and moved is not None:
            job_now = change.job
            assert moved.kind == change.event
        assert store.machine_of(row(database, job_id)) == job_now
