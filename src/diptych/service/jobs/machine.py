"""What may become of a job, and when: the whole state machine, as pure functions.

Each takes a job and gives the `Change`, or None where the guard does not hold, because another was
faster. The store writes what these say; the model check goes over all states they can reach.

A worker's claim raises the job's `fence`, and all that it says later carries that number. So what a
worker says that was taken for dead, and whose job went to another, changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

Status = Literal["queued", "running", "complete", "failed", "canceled"]
TERMINAL: tuple[Status, ...] = ("complete", "failed", "canceled")

MOST_SOLO_DEATHS = 2  # of the engine, with the job alone in it
MOST_ATTEMPTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What of a job decides what may become of it.

    `fence` grows with each claim and each death; `rev` with each event, of which it is the number.
    `crashes`: deaths of the engine with it. `solo`: it runs alone, since the engine died with it
    among others. `lease_until` and `not_before` in seconds of the steady clock, `deadline` of the
    wall clock, 0 for none. `error`: the code of why it failed.
    """

    status: Status = "queued"
    fence: int = 0
    attempt: int = 0
    crashes: int = 0
    solo: bool = False
    held: bool = False
    rev: int = 1
    lease_until: float = 0.0
    not_before: float = 0.0
    deadline: float = 0.0
    cancel_asked: bool = False
    error: str = ""

    @property
    def terminal(self) -> bool:
        """Whether it stays as it is."""
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True)
class Change:
    """A job as it is now; `event`: what is written into its history, empty for nothing."""

    job: Job
    event: str = ""


def holds(job: Job, fence: int) -> bool:
    """Whether a worker that claimed at this fence still has the job."""
    return job.status == "running" and job.fence == fence


def _moved(job: Job, event: str, **changes: Any) -> Change:
    return Change(replace(job, rev=job.rev + 1, **changes), event)


def claim(job: Job, now: float, lease: float) -> Change | None:
    """queued -> running, by a worker for `lease` seconds."""
    if job.status != "queued" or job.held or job.not_before > now:
        return None
    return _moved(
        job, "started",
        status="running", fence=job.fence + 1, attempt=job.attempt + 1, lease_until=now + lease,
    )  # fmt: skip


def renew(job: Job, fence: int, lease_until: float) -> Change | None:
    """A longer lease; no event."""
    if not holds(job, fence):
        return None
    return Change(replace(job, lease_until=max(lease_until, job.lease_until)))


def checkpointed(job: Job, fence: int, lease_until: float) -> Change | None:
    """As `renew`, with a place to go on from that is on disk."""
    if not holds(job, fence):
        return None
    return _moved(job, "checkpointed", lease_until=max(lease_until, job.lease_until))


def complete(job: Job, fence: int) -> Change | None:
    """running -> complete, unless a cancel was acknowledged."""
    if not holds(job, fence) or job.cancel_asked:
        return None
    return _moved(job, "complete", status="complete", lease_until=0.0)


def fail(job: Job, fence: int, code: str) -> Change | None:
    """running -> failed, for good; canceled where that was asked for."""
    if not holds(job, fence):
        return None
    if job.cancel_asked:
        return _moved(job, "canceled", status="canceled", lease_until=0.0)
    return _moved(job, "failed", status="failed", error=code, lease_until=0.0)


def put_back(job: Job, fence: int, not_before: float, *, refund: bool) -> Change | None:
    """running -> queued, after a fault that may pass; `refund` where the worker only shuts down."""
    if not holds(job, fence):
        return None
    if job.cancel_asked:
        return _moved(job, "canceled", status="canceled", lease_until=0.0)
    if not refund and job.attempt >= MOST_ATTEMPTS:
        return _moved(job, "failed", status="failed", error="attempts-spent", lease_until=0.0)
    return _moved(
        job, "retried",
        status="queued", attempt=job.attempt - refund, not_before=not_before, lease_until=0.0,
    )  # fmt: skip


def cancel(job: Job) -> Change | None:
    """Asked by the owner: at once while it is queued, else at the worker's next step."""
    if job.status == "queued":
        return _moved(job, "canceled", status="canceled")
    if job.status == "running" and not job.cancel_asked:
        return _moved(job, "cancel_asked", cancel_asked=True)
    return None


def canceled(job: Job, fence: int) -> Change | None:
    """running -> canceled, by the worker that was told so."""
    if not holds(job, fence) or not job.cancel_asked:
        return None
    return _moved(job, "canceled", status="canceled", lease_until=0.0)


def reap(
    job: Job, fence: int, now: float, *, dead: bool = False, blame: bool = True
) -> Change | None:
    """A worker that is gone: known to be `dead`, or its lease is over. `blame`: the engine died
    while the server lived, perhaps of this job."""
    if not holds(job, fence) or not (dead or job.lease_until < now):
        return None
    gone = replace(job, fence=job.fence + 1, lease_until=0.0, crashes=job.crashes + blame)
    if job.cancel_asked:
        return _moved(gone, "canceled", status="canceled")
    if blame and job.solo and job.crashes >= MOST_SOLO_DEATHS:
        return _moved(gone, "failed", status="failed", error="poison")
    if job.attempt >= MOST_ATTEMPTS:
        return _moved(gone, "failed", status="failed", error="attempts-spent")
    return _moved(gone, "retried", status="queued", solo=job.solo or blame, not_before=0.0)


def expire(job: Job, wall: float) -> Change | None:
    """queued -> failed, when its time is over."""
    if job.status != "queued" or not 0 < job.deadline < wall:
        return None
    return _moved(job, "failed", status="failed", error="expired")


def hold(job: Job, held: bool) -> Change | None:
    """Asked by the owner: a queued job waits until it is let go."""
    if job.status != "queued" or job.held == held:
        return None
    return _moved(job, "held" if held else "released", held=held)


def answered(job: Job) -> Change | None:
    """queued -> complete at once, with what an equal job has given before."""
    if job.status != "queued":
        return None
    return _moved(job, "complete", status="complete")
