"""What a run has cost so far."""

from __future__ import annotations

import os
import time


class Clock:
    """Goes on from the seconds of earlier tries, as their last checkpoint says them."""

    def __init__(self, seconds: float = 0.0, cpu_seconds: float = 0.0):
        self._wall = time.monotonic() - seconds
        self._cpu = _cpu() - cpu_seconds

    @property
    def seconds(self) -> float:
        """Of the wall clock."""
        return round(time.monotonic() - self._wall, 1)

    @property
    def cpu_seconds(self) -> float:
        """User and system, of this process and of its workers."""
        return round(_cpu() - self._cpu, 1)


def _cpu() -> float:
    import psutil

    own = os.times()  # of children only those that have ended
    total = own.user + own.system + own.children_user + own.children_system
    for child in psutil.Process().children():
        try:
            times = child.cpu_times()
        except psutil.Error:
            continue  # it ended between the two questions
        total += times.user + times.system
    return total
