"""The machine of one job, over all states that it can reach."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from diptych.service.jobs import machine
from diptych.service.jobs.machine import Change, Job
from tests.service.jobs.model import explore


def test_no_state_breaks_an_invariant():
    began = time.process_time()
    states, transitions, found, worlds = explore()
    took = time.process_time() - began
    print(f"{states} states, {transitions} transitions, {took:.2f} s")
    assert not found, found
    assert states > 1000 and took < 5
    reached = {(world.job.status, world.job.error) for world in worlds}
    assert reached >= {
        ("complete", ""), ("canceled", ""), ("failed", "wrong"), ("failed", "poison"),
        ("failed", "expired"),
    }  # fmt: skip
    assert max(world.job.crashes for world in worlds) == machine.MOST_SOLO_DEATHS + 1


Rule = Callable[..., Change | None]


def without(rule: Rule, **changes: object) -> Rule:
    """The rule, with a part of the job not looked at."""
    return lambda job, *args, **kwargs: rule(replace(job, **changes), *args, **kwargs)


PLANTED = {
    "I4: renew": ("holds", lambda job, fence: job.status == "running"),
    "I3": ("holds", lambda job, fence: True),
    "I9": ("complete", without(machine.complete, cancel_asked=False)),
    "I10": ("reap", without(machine.reap, solo=False)),
    "I5": ("claim", without(machine.claim, fence=0)),
}


@pytest.mark.parametrize("broken", PLANTED)
def test_the_check_finds_a_guard_that_is_gone(broken: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, *PLANTED[broken])
    _, _, found, _ = explore()
    assert any(one.startswith(broken) for one in found), found
    print(found[0])


def test_attempts_end():
    """A job that is put back for ever is not: the worlds above have too few claims for it."""
    job, deaths = Job(), 0
    while not job.terminal:
        change = machine.claim(job, 0.0, 1.0)
        assert change is not None
        change = machine.put_back(change.job, change.job.fence, 0.0, refund=False)
        assert change is not None
        job, deaths = change.job, deaths + 1
    assert (deaths, job.error) == (machine.MOST_ATTEMPTS, "attempts-spent")
