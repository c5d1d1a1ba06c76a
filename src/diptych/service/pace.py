"""How long things take: learnt from what was done, kept over restarts."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert, select, update

from diptych.service.jobs.facts import get_fact, put_fact
from diptych.service.jobs.schema import pace

REMEMBERED = 200  # jobs, for the percentile of ETAs
FEWEST, GUESSED = 20, 1.5  # jobs until it is learnt, and what is said before
SHORTEST = 0.05  # seconds: below, what is told is nothing but the time of a commit
RATIOS = "eta_ratios"
KEEP = 0.7  # of the mean so far, at each new one
UNKNOWN = {"paint": 0.05, "read": 0.2, "chat": 1.0, "embed": 0.1}  # seconds, before any was done


def key_of(spec: Mapping[str, Any]) -> str:
    """What decides how long a step of a job takes."""
    kind, model = spec["kind"], spec["model"]
    if kind != "paint":
        return f"{kind} {model}"
    passes = 1 if spec["guidance"] == 1 else 2
    return f"paint {model} {spec['width']}x{spec['height']} {passes}"


def units_of(spec: Mapping[str, Any]) -> float:
    """By what that is multiplied."""
    if spec["kind"] != "paint":
        return 1.0
    return max(1.0, spec["steps"] * (spec.get("strength") or 1.0))


@dataclass
class Pace:
    """`seconds` of the engine a unit, by key; `ratios`: what the last jobs took, from acceptance
    to their end, over what was told."""

    seconds: dict[str, float] = field(default_factory=dict)
    ratios: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    @classmethod
    def load(cls, connection: Connection) -> Pace:
        """What was learnt before."""
        rows = connection.execute(select(pace.c.key, pace.c.seconds)).all()
        ratios = get_fact(connection, RATIOS, [])
        return cls({row.key: row.seconds for row in rows}, deque(ratios, maxlen=REMEMBERED))

    @property
    def late(self) -> float:
        """Times its ETA, four of five jobs are done."""
        if len(self.ratios) < FEWEST:
            return GUESSED
        return sorted(self.ratios)[math.ceil(0.8 * len(self.ratios)) - 1]

    def ended(self, told: float, took: float) -> tuple[float, bool]:
        """A job is done: what it took over what was told, and whether that was within the 80th
        percentile as it was until now."""
        ratio = took / max(told, SHORTEST)
        within = ratio <= self.late
        self.ratios.append(ratio)
        return ratio, within

    def price(self, spec: Mapping[str, Any]) -> float:
        """Predicted seconds of the engine, more than 0."""
        key, units = key_of(spec), units_of(spec)
        if key in self.seconds:
            return max(self.seconds[key] * units, 1e-4)
        if spec["kind"] == "paint":
            return max(self._by_area(spec) * units, 1e-4)
        return UNKNOWN[spec["kind"]]

    def _by_area(self, spec: Mapping[str, Any]) -> float:
        """Of a size that was never painted: as its area is to one that was."""
        area = spec["width"] * spec["height"]
        start = f"paint {spec['model']} "
        for key, seconds in self.seconds.items():
            if key.startswith(start):
                width, _, height = key.removeprefix(start).split()[0].partition("x")
                return seconds * area / (int(width) * int(height))
        return UNKNOWN["paint"] * area / (64 * 64)

    def learn(self, spec: Mapping[str, Any], seconds: float) -> tuple[str, float]:
        """One more was done; the key and its mean now."""
        key, one = key_of(spec), seconds / units_of(spec)
        before = self.seconds.get(key)
        self.seconds[key] = one if before is None else KEEP * before + (1 - KEEP) * one
        return key, self.seconds[key]


def keep(connection: Connection, learnt: Pace, key: str) -> None:
    """Write what was learnt of late."""
    seconds = learnt.seconds[key]
    put_fact(connection, RATIOS, [round(ratio, 4) for ratio in learnt.ratios])
    changed = connection.execute(update(pace).where(pace.c.key == key).values(seconds=seconds))
    if changed.rowcount == 0:
        connection.execute(insert(pace), {"key": key, "seconds": seconds})
