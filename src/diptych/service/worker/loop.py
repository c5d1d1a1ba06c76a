"""The worker's loop: claims what fits, gives the engine its turns, tells what came of it.

All of it in the one thread that steps, so that a hung engine renews no lease; only files are made
and written beside it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from diptych.engine.engine import Engine, Turn
from diptych.foundation.errors import NotWritten
from diptych.service import artifacts
from diptych.service.worker.line import Line
from diptych.service.worker.runs import Made, Room, Run, begun, why

RENEW_EVERY = 2.0
PREVIEW_EVERY = 0.25
POLL = 2.0  # bells may be lost; the store is asked this often whatever happens


class Waiting:
    """A claimed job that is not begun."""

    step = 0

    def __init__(self, row: Mapping[str, Any]):
        self.row, self.id, self.fence = row, str(row["id"]), int(row["fence"])
        self.uses = str(row["spec"].get("model"))


@dataclass
class Worker:
    """`most`: jobs under way at once. `spool_every` and `drain_for` as in `EngineSettings`.
    `claimed`: a job that waits here until there is room for its model; nothing else is claimed
    meanwhile."""

    line: Line
    room: Room
    most: int = 8
    spool_every: float = 5.0
    drain_for: float = 25.0
    runs: dict[str, Run] = field(default_factory=dict)
    making: dict[str, tuple[Run, Future[tuple[Made, tuple[str, int]]]]] = field(
        default_factory=dict
    )
    claimed: Waiting | None = None
    draining: float = 0.0
    renewed: float = 0.0
    turns: int = 0
    turned: float = 0.0
    asked: float = 0.0
    previewed: dict[str, float] = field(default_factory=dict)
    spooled: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.room.engine.learn = self._learn
        self.maker = ThreadPoolExecutor(1, thread_name_prefix="files")

    @property
    def engine(self) -> Engine:
        return self.room.engine

    def work(self) -> None:
        """Until the server goes or the engine has been drained. Raises ServerGone."""
        while not self.line.gone:
            self._hear()
            self._make_room()
            if not self.draining:
                self._claim()
            moved = self.engine.step()
            self._watch()
            self._finish()
            self._renew()
            if self.draining and self._drained():
                return
            if not moved and not any(run.done for run in self.runs.values()):
                self.line.bell.wait(self._idle())

    def _idle(self) -> float:
        """Seconds to wait for a bell at most; none where there may be more to claim."""
        if self.making or self.claimed is not None:
            return 0.02
        return POLL if self.asked or self.draining else 0.0

    # --- what comes ---------------------------------------------------------------------------

    def _hear(self) -> None:
        for word in self.line.heard():
            self.asked = 0.0
            if word.get("bell") == "drain" and not self.draining:
                self.draining = monotonic()
                self._put_back_claimed()
            if word.get("bell") == "cancel":
                self._told_to_cancel(str(word.get("id")))

    def _told_to_cancel(self, job_id: str) -> None:
        run = self.runs.get(job_id)
        if self.claimed is not None and self.claimed.id == job_id:
            self.line.call("canceled", id=job_id, fence=self.claimed.fence)
            self.claimed = None
        if run is not None:
            run.cancel_told = True
            run.cancel()

    def _claim(self) -> None:
        """As much as there is room for; asked when a bell rang, when there is room again, and
        every `POLL` seconds."""
        if monotonic() - self.asked < POLL:
            return
        while self.claimed is None and len(self.runs) + len(self.making) < self.most:
            if any(run.solo for run in self.runs.values()):
                return
            said = self.line.call("claim", busy=bool(self.runs or self.making))
            row = said.get("row")
            if row is None:
                self.asked = monotonic()
                return
            if self.room.pool.lacks(str(row["spec"].get("model"))):
                self.claimed = Waiting(row)
                self._make_room()
            else:
                self._begin(row)

    def _make_room(self) -> None:
        """Load the model of the job that waits for it, once what is in its way has ended."""
        one, pool = self.claimed, self.room.pool
        ours = [*self.runs.values(), *(run for run, _ in self.making.values())]
        if one is None or not pool.has_room(one.uses, {run.uses for run in ours}):
            return
        self._renewed([*ours, one], pool.lease(one.uses))
        if self.claimed is None:  # given up meanwhile
            return
        self.claimed = None
        try:
            pool.load(one.uses)
        except Exception as error:  # its own: the others go on
            self._failed(one, error)
        else:
            self._figures()
            self._begin(one.row)

    def _put_back_claimed(self) -> None:
        if self.claimed is not None:
            said = {"id": self.claimed.id, "fence": self.claimed.fence}
            self.line.call("put_back", **said, delay=0.0, refund=True)
            self.claimed = None

    def _begin(self, row: Mapping[str, Any]) -> None:
        try:
            self.runs[str(row["id"])] = begun(self.room, row)
        except Exception as error:  # the job's own, whatever it is: the others go on
            self._failed(Waiting(row), error)

    def _failed(self, job: Run | Waiting, error: Exception) -> None:
        code, detail = why(error)
        self.line.call("fail", id=job.id, fence=job.fence, code=code, detail=detail)

    # --- while they run -----------------------------------------------------------------------

    def _learn(self, turn: Turn) -> None:
        self.turns, self.turned = self.turns + 1, self.turned + turn.seconds
        for run in self.runs.values():
            if share := run.share(turn):
                run.seconds += share
                run.trace.turn(turn.seconds, beside=len(turn.jobs) or turn.texts)

    def _watch(self) -> None:
        now = monotonic()
        for run in self.runs.values():
            if run.done:
                continue
            if now - self.previewed.get(run.id, run.began) >= PREVIEW_EVERY:
                self.previewed[run.id] = now
                picture = run.preview()
                self.line.tell("step", id=run.id, step=run.step, steps=run.steps, preview=picture)
            if now - self.spooled.get(run.id, run.began) >= self.spool_every:
                self.spooled[run.id] = now
                self._spool(run)

    def _spool(self, run: Run) -> bool:
        """A place to go on from; a full disk costs only that."""
        try:
            place = run.spool()
        except NotWritten:
            return False
        if place is None:
            return False
        self.line.call("checkpoint", id=run.id, fence=run.fence, step=run.step, place=place)
        return True

    def _renew(self) -> None:
        now = monotonic()
        ours = [*self.runs.values(), *(run for run, _ in self.making.values())]
        waiting = [] if self.claimed is None else [self.claimed]
        if not (ours or waiting) or now - self.renewed < RENEW_EVERY:
            return
        self._figures()
        self._renewed([*ours, *waiting])

    def _renewed(self, jobs: Sequence[Run | Waiting], lease: float = 0.0) -> None:
        """`lease`: seconds, where it is to be longer than usual."""
        self.renewed = monotonic()
        told = [[one.id, one.fence, one.step] for one in jobs]
        answers = self.line.call("renew", told=told, lease=lease)
        for one in jobs:
            answer = answers.get(one.id, "lost")
            if answer == "cancel":
                self._told_to_cancel(one.id)
            elif answer == "lost" and isinstance(one, Waiting):
                self.claimed = None
            elif answer == "lost" and isinstance(one, Run):
                one.cancel()
                self._forget(one)

    def _figures(self) -> None:
        """What is counted, since the last time."""
        painters = [painter.batching for painter in self.engine.painters.values()]
        calls = sum(one.calls for one in painters)
        self.line.tell(
            "figures",
            occupancy=sum(one.rows for one in painters) / max(calls, 1),
            turn_seconds=self.turned / max(self.turns, 1),
            memory_bytes=_memory(),
            model_bytes=self.room.pool.held,
        )
        self.turns, self.turned = 0, 0.0

    # --- when they are done -------------------------------------------------------------------

    def _finish(self) -> None:
        for run in [one for one in self.runs.values() if one.done]:
            self.runs.pop(run.id)
            if run.cancel_told:
                self.line.call("canceled", id=run.id, fence=run.fence)
                self._forget(run)
            else:
                made = self.maker.submit(self._made, run)
                made.add_done_callback(lambda _: self.line.bell.set())
                self.making[run.id] = (run, made)
        for run, made in [one for one in self.making.values() if one[1].done()]:
            self.making.pop(run.id)
            self._publish(run, made)
            self._forget(run)

    def _made(self, run: Run) -> tuple[Made, tuple[str, int]]:
        made = run.made()
        if not made.file:
            return made, ("", 0)
        sha = artifacts.put(self.room.data / "artifacts", made.file, made.media)
        return made, (sha, len(made.file))

    def _publish(self, run: Run, future: Future[tuple[Made, tuple[str, int]]]) -> None:
        try:
            made, (sha, size) = future.result()
        except NotWritten:  # a full disk may pass; the picture is the same then
            self.line.call("put_back", id=run.id, fence=run.fence, delay=5.0, refund=False)
            return
        except Exception as error:
            self._failed(run, error)
            return
        stored = [[sha, made.media, size, "picture"]] if made.file else []
        said = {"id": run.id, "fence": run.fence, "result": made.result, "stored": stored}
        while self.line.call("complete", **said) == "again":  # the sweeper was at the same file
            sleep(1.0)
            artifacts.put(self.room.data / "artifacts", made.file, made.media)

    def _forget(self, run: Run) -> None:
        run.trace.end(steps=run.step)
        self.runs.pop(run.id, None)
        self.making.pop(run.id, None)
        self.previewed.pop(run.id, None)
        self.spooled.pop(run.id, None)
        self.asked = 0.0
        for path in (self.room.data / "spool").glob(f"{run.id}.*"):
            path.unlink(missing_ok=True)

    def _drained(self) -> bool:
        """What fits into the time is finished, the rest put back where it is."""
        if not self.runs and not self.making:
            return True
        if monotonic() - self.draining < self.drain_for:
            return False
        for run in list(self.runs.values()):
            self._spool(run)
            self.line.call("put_back", id=run.id, fence=run.fence, delay=0.0, refund=True)
        return True


def _memory() -> int:
    """Bytes of this process that are in memory; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
