"""What is counted and timed, as Prometheus reads it: of one process, from when it began.

Names of models and sizes are the only labels that others decide, and both are bounded by what the
operator serves; no prompt and no owner is ever a label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

ANSWERS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
JOBS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
RATIOS = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0)
_JOB = ("kind", "model", "size")


class Figures:
    """Each application has its own."""

    def __init__(self) -> None:
        here = self.registry = CollectorRegistry()
        ProcessCollector(registry=here)
        self.answers = Counter(
            "diptych_answers", "Answers by route and status", ("route", "status"), registry=here
        )
        self.answered = Histogram(
            "diptych_answer_seconds", "From a request to its answer; of a stream, to its "
            "beginning", ("route",), buckets=ANSWERS, registry=here,
        )  # fmt: skip
        self.jobs = Histogram(
            "diptych_job_seconds", "From acceptance to completion", _JOB, buckets=JOBS,
            registry=here,
        )  # fmt: skip
        self.worked = Histogram(
            "diptych_engine_seconds", "Of the engine, a job", _JOB, buckets=JOBS, registry=here
        )
        self.etas = Histogram(
            "diptych_eta_ratio", "What a job took over what was told", buckets=RATIOS,
            registry=here,
        )  # fmt: skip
        self.in_time = Counter(
            "diptych_eta_p80", "Jobs done within the 80th percentile that was told, or later",
            ("within",), registry=here,
        )  # fmt: skip
        self.cached = Counter(
            "diptych_cache_hits", "Requests answered by an equal one", ("kind",), registry=here
        )
        self.failures = Counter("diptych_failures", "Failed jobs", ("code",), registry=here)
        self.occupancy = Gauge(
            "diptych_batch_occupancy", "Evaluations a call of a painter's network", registry=here
        )
        self.turn = Gauge("diptych_turn_seconds", "A turn of the engine, of late", registry=here)
        self.memory = Gauge("diptych_engine_memory_bytes", "Of the engine", registry=here)
        self.models = Gauge("diptych_model_bytes", "Of the loaded models", registry=here)

    def done(self, kind: str, model: str, size: str, seconds: float, engine: float) -> None:
        """A job is complete."""
        self.jobs.labels(kind, model, size).observe(seconds)
        self.worked.labels(kind, model, size).observe(engine)

    def predicted(self, ratio: float, within: bool) -> None:
        """What it took, over what was told; `within`: not later than the 80th percentile."""
        self.etas.observe(ratio)
        self.in_time.labels("yes" if within else "no").inc()

    def engine(self, said: Mapping[str, Any]) -> None:
        """What the engine tells of itself."""
        self.occupancy.set(said["occupancy"])
        self.turn.set(said["turn_seconds"])
        self.memory.set(said["memory_bytes"])
        self.models.set(said["model_bytes"])
