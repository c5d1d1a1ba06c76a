"""The engine of pictures: requests join between steps, each with its own solver, steps, guidance,
seed and adapters, and leave when they are done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.engine.batching import MOST, Batching
from diptych.engine.precision import in_doubt, once_more
from diptych.foundation.errors import InvalidValue
from diptych.pipelines.painting import Painting, Request
from diptych.pipelines.text_to_image import PaintState, finish, prepare, restored, together


@dataclass(eq=False)
class Job:
    """A request on its way. `error` is what it failed of; `pictures` [B, H, W, 3] uint8. `watch`
    is called after every step of its own. `since`: when it came, by the engine's clock."""

    request: Request
    watch: Callable[[PaintState], None] | None = None
    state: PaintState | None = None
    pictures: NDArray[np.uint8] | None = None
    error: Exception | None = None
    cancelled: bool = False
    since: float = 0.0

    @property
    def done(self) -> bool:
        """Whether nothing more is to come."""
        return self.cancelled or self.error is not None or self.pictures is not None

    def cancel(self) -> None:
        """Give it up before its next step."""
        self.cancelled = True

    def result(self) -> NDArray[np.uint8]:
        """The pictures. Raises what it failed of, and InvalidValue for a job that is not done."""
        if self.error is not None:
            raise self.error
        if self.pictures is None:
            what = "was cancelled" if self.cancelled else "is not done"
            raise InvalidValue(f"The request {what}.", do="Ask when it is done.")
        return self.pictures


@dataclass
class PaintingEngine:
    """Runs requests of one model together; nothing happens but in `step`, and in one thread.

    `exact`: every picture has the bits that its request has alone. `most`: pictures under way at
    once, and evaluations a call. First come, first admitted; latents of one shape step together,
    and one picture is decoded at a time, when the network has been asked.
    """

    networks: Painting
    exact: bool = True
    most: int = MOST
    waiting: deque[Job] = field(default_factory=deque)
    active: list[Job] = field(default_factory=list)
    ready: deque[Job] = field(default_factory=deque)

    def __post_init__(self) -> None:
        if self.most < 1:
            raise InvalidValue(f"most={self.most} lets nothing in.", do="Choose 1 or more.")
        self.batching = Batching(self.networks, self.exact, self.most)

    def submit(
        self,
        request: Request,
        watch: Callable[[PaintState], None] | None = None,
        state: PaintState | None = None,
    ) -> Job:
        """Put a request behind the others; a `state` is where it was and goes on."""
        job = Job(request, watch, state)
        self.waiting.append(job)
        return job

    def step(self) -> bool:
        """Admit, ask the network once for all that is under way, decode a picture; whether there
        is more to do."""
        for jobs in self.shapes().values():
            self.advance(jobs)
        if self.ready:
            self.decode(self.ready[0])
        return bool(self.waiting or self.active or self.ready)

    @torch.inference_mode()
    def shapes(self) -> dict[tuple[int, ...], list[Job]]:
        """Those under way by the shape of their latents, when all that fits has been admitted."""
        self.active = [job for job in self.active if not job.done]
        self._admit()
        shapes: dict[tuple[int, ...], list[Job]] = {}
        for job in self.active:
            if job.state is not None:
                shapes.setdefault(tuple(job.state.solving.x.shape[1:]), []).append(job)
        return shapes

    @torch.inference_mode()
    def advance(self, jobs: Sequence[Job]) -> None:
        """Ask the network once for some of a shape."""
        self._together([job for job in jobs if job.state is not None and not job.state.done])
        arrived = [job for job in jobs if not job.done and job.state is not None and job.state.done]
        self.ready += arrived
        self.active = [job for job in self.active if not job.done and job not in arrived]

    def run(self) -> None:
        """All that was submitted."""
        while self.step():
            pass

    def _admit(self) -> None:
        while self.waiting and self._under_way() < self.most:
            job = self.waiting.popleft()
            if job.cancelled:
                continue
            try:
                job.state = job.state or prepare(self.networks, job.request)
            except Exception as error:  # the request's own, whatever it is: the others go on
                job.error = error
                continue
            self.active.append(job)

    def _under_way(self) -> int:
        return sum(len(job.request.prompts) for job in self.active)

    def _together(self, jobs: list[Job]) -> None:
        if not jobs:
            return
        moved = self._moved(jobs)
        if moved is None and len(jobs) > 1:
            # Whose fault it is shows when each is asked alone.
            for job in jobs:
                self._together([job])
        for job, state in zip(jobs, moved or (), strict=False):
            job.state = state
            if job.watch is not None:
                job.watch(state)

    def _moved(self, jobs: Sequence[Job]) -> list[PaintState] | None:
        """Their next states; None where it fails, which is the fault of one that is alone. Done
        again in smaller parts while those that it was done in were too much for the memory, and
        in float32 for those that half precision gives no numbers."""
        states = [job.state for job in jobs if job.state is not None]
        while True:
            caps = dict(self.batching.caps)
            try:
                moved = together(self.networks, states, self.batching.call)
                return [
                    once_more(self.networks, job.request, state)
                    if in_doubt(self.networks, after)
                    else after
                    for job, state, after in zip(jobs, states, moved, strict=True)
                ]
            except Exception as error:
                if caps == self.batching.caps:
                    if len(jobs) == 1:
                        jobs[0].error = error
                    return None
            # Not before here, where the error and what its frames hold of memory are gone.

    @torch.inference_mode()
    def decode(self, job: Job) -> None:
        """The picture of one whose latents are done."""
        if job in self.ready:
            self.ready.remove(job)
        else:  # it came from a file, when nothing but this was left
            self.active.remove(job)
        if job.cancelled or job.state is None:
            return
        try:
            job.pictures = restored(finish(self.networks, job.state), job.request.begin)
        except Exception as error:
            job.error = error
        job.state = None
