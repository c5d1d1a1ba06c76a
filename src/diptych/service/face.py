"""The engine as the web half sees it: its models, whether it is there, what things cost."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from diptych.foundation.files import write_whole
from diptych.service import logs
from diptych.service.api.hub import Hub, Live
from diptych.service.api.state import ModelInfo
from diptych.service.figures import Figures
from diptych.service.jobs.store import Moved
from diptych.service.pace import Pace
from diptych.service.supervisor import Supervisor

TOLD = ("complete", "failed", "canceled", "retried")  # in the log
STARTS = ("queued", "released", "retried")


@dataclass
class Face:
    """`models` are those of the last engine until the next has said `hello`, so that a restart
    refuses nobody; `file` keeps them over restarts of the server."""

    file: Path
    pace: Pace
    models: dict[str, ModelInfo] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    supervisor: Supervisor | None = None

    def begin(self) -> None:
        """What the last server's engine had."""
        try:
            self.models = _models_of(json.loads(self.file.read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            self.models = {}  # it will be told anew

    @property
    def state(self) -> str:
        """starting | ready | broken"""
        state = "starting" if self.supervisor is None else self.supervisor.state
        return state if state in ("ready", "broken") else "starting"

    @property
    def late(self) -> float:
        """Times its ETA, four of five jobs are done."""
        return self.pace.late

    def ring(self) -> None:
        """There is work."""
        if self.supervisor is not None:
            self.supervisor.ring()

    def price(self, spec: Mapping[str, Any]) -> float:
        """Predicted seconds of the engine."""
        return self.pace.price(spec)

    def hello(self, said: Mapping[str, Any]) -> None:
        """The engine is there, with these models."""
        self.models = _models_of(said["models"])
        write_whole(self.file, json.dumps(said["models"]))

    def lacks(self, name: str, why: str) -> None:
        """A model of the registry could not be loaded."""
        if name not in self.missing:
            print(f"{name} is not served. {why}", file=sys.stderr, flush=True)
        self.missing[name] = why


def _models_of(told: list[dict[str, Any]]) -> dict[str, ModelInfo]:
    known = {one.name for one in fields(ModelInfo)}
    made: dict[str, ModelInfo] = {}
    for one in told:
        values = {name: _frozen(value) for name, value in one.items() if name in known}
        made[one["name"]] = ModelInfo(**values)
    return made


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class Bells(Hub):
    """A hub that rings the engine as well, of what begins and what is given up, and counts what
    fails."""

    def __init__(self, engine: Callable[[], Supervisor | None], figures: Figures):
        super().__init__()
        self._engine, self._figures = engine, figures

    def publish(self, said: Moved | Live) -> None:
        """Tell who looks on, and the engine."""
        super().publish(said)
        if isinstance(said, Moved) and said.kind in TOLD:
            logs.moved(said)
        if isinstance(said, Moved) and said.kind == "failed":
            self._figures.failures.labels(said.job.error).inc()
        supervisor = self._engine()
        if supervisor is None or isinstance(said, Live):
            return
        if said.kind == "cancel_asked":
            supervisor.cancel(said.id)
        elif said.kind in STARTS:
            supervisor.ring()
