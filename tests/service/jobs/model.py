"""All states that one job can reach: two workers, a reaper, an owner, and messages that come late,
twice or from the dead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from diptych.service.jobs import machine
from diptych.service.jobs.machine import Change, Job

MOST_CLAIMS = 4
EARLY, LATE = 0.0, 100.0  # before and after the end of every lease and deadline


@dataclass(frozen=True)
class World:
    """The job, and what only a bystander knows. `holder`: the fence of the claim that is good now,
    0 for none; `claims`: fences that workers got, each of which may speak at any time; `alive`: how
    many claims a live worker works on; `given_up`: a cancel was acknowledged."""

    job: Job
    holder: int = 0
    claims: tuple[int, ...] = ()
    alive: frozenset[int] = frozenset()
    given_up: bool = False


@dataclass(frozen=True)
class Step:
    name: str
    fence: int  # that the message carries, 0 for one of no worker
    change: Change | None
    world: World  # before, with what the bystander saw


def steps(world: World) -> Iterator[Step]:
    """All that may happen next, also what the guards should refuse."""
    job = world.job
    if len(world.alive) < 2 and len(world.claims) < MOST_CLAIMS:
        yield Step("claim", 0, machine.claim(job, EARLY, 1.0), world)
    yield Step("cancel", 0, machine.cancel(job), replace(world, given_up=True))
    for held in (True, False):
        yield Step("hold", 0, machine.hold(job, held), world)
    yield Step("expire", 0, machine.expire(job, LATE), world)
    if not world.claims:
        yield Step("answered", 0, machine.answered(job), world)
    for seen in {*world.claims, job.fence}:  # a reaper that looked a while ago, too
        for dead, blame in ((False, True), (True, False)):
            change = machine.reap(job, seen, LATE, dead=dead, blame=blame)
            yield Step("reap", 0, change, world)
    for fence in world.claims:  # of a worker alive, stalled or dead: what it sent may still come
        yield Step("renew", fence, machine.renew(job, fence, 1.0), world)
        yield Step("checkpointed", fence, machine.checkpointed(job, fence, 1.0), world)
        yield Step("complete", fence, machine.complete(job, fence), world)
        yield Step("fail", fence, machine.fail(job, fence, "wrong"), world)
        yield Step("canceled", fence, machine.canceled(job, fence), world)
        for refund in (True, False):
            change = machine.put_back(job, fence, EARLY, refund=refund)
            yield Step("put_back", fence, change, world)
    for fence in world.alive:
        died = replace(world, alive=world.alive - {fence})
        yield Step("death", 0, Change(job), died)


def after(step: Step) -> World:
    """The world after a step that changed something."""
    assert step.change is not None
    job, world = replace(step.change.job, rev=1), step.world
    if step.name == "claim":
        claims = (*world.claims, job.fence)
        return replace(
            world, job=job, holder=job.fence, claims=claims, alive=world.alive | {job.fence}
        )
    holder = world.holder if job.status == "running" else 0
    return replace(world, job=job, holder=holder)


def wrong(step: Step) -> str:
    """Which invariant a step breaks; empty for none."""
    if step.change is None or step.name == "death":
        return ""
    old, new = step.world.job, step.change.job
    if old.terminal:
        return f"I3: {step.name} moved a job that was {old.status}"
    if step.fence and step.fence != step.world.holder:
        return f"I4: {step.name} by claim {step.fence}, but {step.world.holder or 'none'} has it"
    if new.fence < old.fence or new.rev != old.rev + bool(step.change.event):
        return f"I5: {step.name} gave fence {new.fence}, rev {new.rev} after {old}"
    if step.name == "claim" and new.fence in step.world.claims:
        return f"I5: fence {new.fence} was given twice"
    if step.world.given_up and new.terminal and new.status != "canceled":
        return f"I9: {step.name} made a job {new.status} that was given up"
    if new.crashes > machine.MOST_SOLO_DEATHS + 1 or (
        new.crashes > machine.MOST_SOLO_DEATHS and not new.terminal
    ):
        return f"I10: {new.crashes} deaths, and it is {new.status}"
    return ""


def explore() -> tuple[int, int, list[str], set[World]]:
    """States, transitions, the first ten violations with how they came about, and the states."""
    starts = [World(Job(deadline=1.0))]
    seen: dict[World, tuple[World, str] | None] = dict.fromkeys(starts)
    todo, transitions, found = deque(starts), 0, []
    while todo and len(found) < 10:
        world = todo.popleft()
        for step in steps(world):
            if step.change is None:
                continue
            transitions += 1
            if broken := wrong(step):
                found.append(f"{broken}; after {' '.join(path(seen, world))}")
                continue
            new = after(step)
            if new not in seen:
                seen[new] = (world, step.name)
                todo.append(new)
    return len(seen), transitions, found, set(seen)


def path(seen: dict[World, tuple[World, str] | None], world: World) -> list[str]:
    names: list[str] = []
    came = seen[world]
    while came is not None:
        names.insert(0, came[1])
        came = seen[came[0]]
    return names
