"""Progress drawn for a person: one line that moves on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from diptych.foundation.progress import Progress, Report

ON_TERMINAL = 0.1  # seconds between two drawings
ELSEWHERE = 10.0


@contextmanager
def drawing(
    label: str,
    unit: str = "it",
    *,
    to: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Report]:
    """A reporter that draws `label`, how far, the rate, the time left and the note, on stderr.

    `unit` names what is counted, such as `step`. The last state is always drawn.
    """
    line = _Line(label, unit, to or sys.stderr, clock)
    try:
        yield line.report
    finally:
        line.finish()


class _Line:
    def __init__(self, label: str, unit: str, to: TextIO, clock: Callable[[], float]):
        self.label, self.unit, self.to, self.clock = label, unit, to, clock
        self.moves = to.isatty()
        self.began = clock()
        self.drawn_at = self.began
        self.last: Progress | None = None
        self.drawn: Progress | None = None
        self.first_done: int | None = None

    def report(self, progress: Progress) -> None:
        if self.first_done is None:
            # A resumed run starts in the middle: what was done before is no part of the rate.
            self.first_done = min(progress.done, max(progress.done - 1, 0))
        self.last = progress
        now = self.clock()
        if now - self.drawn_at >= (ON_TERMINAL if self.moves else ELSEWHERE):
            self._draw(progress, now)

    def finish(self) -> None:
        if self.last is not None and self.last != self.drawn:
            self._draw(self.last, self.clock())
        if self.moves and self.drawn is not None:
            print(file=self.to)

    def _draw(self, progress: Progress, now: float) -> None:
        from tqdm import tqdm

        text = tqdm.format_meter(
            n=progress.done,
            total=progress.total,
            elapsed=now - self.began,
            initial=self.first_done or 0,
            prefix=self.label,
            unit=f" {self.unit}",
            postfix=progress.note,
            ncols=_columns(self.to) if self.moves else 0,
        )
        # \x1b[K clears what a longer line left behind.
        print(
            f"\r{text}\x1b[K" if self.moves else text, end="" if self.moves else "\n", file=self.to
        )
        self.to.flush()
        self.drawn, self.drawn_at = progress, now


def _columns(to: TextIO) -> int:
    import os

    try:
        return max(os.get_terminal_size(to.fileno()).columns - 1, 20)
    except OSError:
        return 79
