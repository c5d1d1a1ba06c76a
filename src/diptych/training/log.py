"""`log.jsonl`: one line of JSON per logged step and per probe, each step once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from diptych.foundation.files import write_whole

NAME = "log.jsonl"


class Means:
    """Means over the steps since the last line; its `state` is saved with a checkpoint."""

    def __init__(self, state: Mapping[str, Any] | None = None):
        self.sums: dict[str, float] = dict(state["sums"]) if state else {}
        self.count: int = state["count"] if state else 0

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def take(self) -> dict[str, float]:
        """The means, and a fresh start."""
        means = {name: total / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    @property
    def state(self) -> dict[str, Any]:
        return {"sums": dict(self.sums), "count": self.count}


class Log:
    """Appends lines; those beyond `step`, of a try that was not saved, are taken back first."""

    def __init__(self, run: Path, step: int):
        self.path = run / NAME
        kept = [line for line in read(run) if line["step"] <= step]
        write_whole(self.path, "".join(_line(line) for line in kept))

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(_line({"step": step, **values}))


def read(run: Path) -> Iterator[dict[str, Any]]:
    """The lines of a run's log, up to the first that a killed process left unfinished."""
    path = run / NAME
    if not path.exists():
        return
    with path.open() as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                return
            if not isinstance(line, dict) or "step" not in line:
                return
            yield line


def finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """Numbers that JSON can say: not-a-number and infinity become null."""
    return {name: float(v) if isfinite(v) else None for name, v in values.items()}


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, allow_nan=False) + "\n"
