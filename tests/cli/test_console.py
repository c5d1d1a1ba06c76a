"""Progress as a person sees it."""

from __future__ import annotations

import io

from diptych.cli.console import ELSEWHERE, drawing
from diptych.foundation.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def run(to: io.StringIO, *, steps: int = 100, first: int = 1, seconds: float = 1.0) -> str:
    clock = Clock()
    with drawing("paint", "step", to=to, clock=clock) as report:
        for done in range(first, steps + 1):
            clock.now += seconds
            report(Progress(done, steps, f"loss {done}"))
    return to.getvalue()


def test_a_log_gets_few_whole_lines_and_the_last_state():
    lines = run(io.StringIO()).splitlines()
    assert len(lines) == 100 / ELSEWHERE
    assert not any("\r" in line or "\x1b" in line for line in lines)
    assert "100/100" in lines[-1] and "loss 100" in lines[-1]
    assert "1.00 step/s" in lines[4]
    assert "00:50" in lines[4]  # 50 steps left at one a second


def test_a_terminal_gets_one_line_that_moves():
    text = run(Terminal())
    assert text.count("\n") == 1 and text.endswith("\n")
    assert text.count("\r") == 100


def test_a_resumed_run_counts_only_its_own_steps():
    lines = run(io.StringIO(), steps=1000, first=901).splitlines()
    assert "1.00 step/s" in lines[4]


def test_an_unknown_total_and_no_work_at_all():
    clock, to = Clock(), io.StringIO()
    with drawing("count", to=to, clock=clock) as report:
        clock.now += 2
        report(Progress(8, 0))
    assert "8" in to.getvalue()
    to = Terminal()
    with drawing("nothing", to=to):
        pass
    assert to.getvalue() == ""
