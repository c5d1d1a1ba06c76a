"""The servers that `benchmarks.serve_overhead` measures, and the jobs whose ETAs it checks."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import uvicorn

from diptych.service.api import reads
from diptych.service.api.app import make_app
from diptych.service.api.hub import Hub
from diptych.service.api.settings import Settings
from diptych.service.api.state import ModelInfo, State
from diptych.service.guards.header_deadline import with_deadline
from diptych.service.guards.pictures import Decoder
from diptych.service.guards.rates import Rates
from diptych.service.jobs import accepting, store
from diptych.service.jobs.accepting import Wanted
from diptych.service.jobs.database import Database
from diptych.service.pace import Pace
from diptych.service.server import Files

JOBS, LOAD, STRAYS = 300, 0.7, 0.1
_MANY = "1000000000/minute"
_MODEL = ModelInfo(
    name="painter", does="paint", size=(64, 64), multiple=8, most_side=256, most_steps=50,
    steps=4, guidance=3.0, fingerprint="f1",
)  # fmt: skip


@dataclass
class Idle:
    """An engine that does nothing."""

    models: Mapping[str, ModelInfo] = field(default_factory=lambda: {_MODEL.name: _MODEL})
    state: str = "ready"
    late: float = 1.0

    def ring(self) -> None:
        """There is work: it stays."""

    def price(self, spec: Mapping[str, Any]) -> float:
        """Next to nothing, so that the queue is never full."""
        return 1e-4


def ours(port: int) -> None:
    """The application over a real store; a line of input is answered with the commits so far."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            data=Path(folder), port=port, per_user=_MANY, per_address=_MANY, disk_bytes=1,
            disk_share=0.0,
        )  # fmt: skip
        database = Database.open(settings.data)
        state = State(
            settings=settings, database=database, artifacts=Files(settings.data / "artifacts"),
            engine=Idle(), hub=Hub(), decoder=Decoder(processes=1), secret=b"s" * 32,
            keys=lambda sha: database.read(lambda c: reads.key_of(c, sha)),
            rates=Rates(per_user=_MANY, per_address=_MANY),
        )  # fmt: skip

        def tell() -> None:
            for _ in sys.stdin:
                print(database.commits, flush=True)

        threading.Thread(target=tell, daemon=True).start()
        uvicorn.run(
            make_app(state), port=port, http=with_deadline(10.0), log_level="error",
            access_log=False, server_header=False,
        )  # fmt: skip


def bare(port: int) -> None:
    """FastAPI with the same body, which keeps nothing."""
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Generate(BaseModel):
        prompt: str
        negative_prompt: str = ""
        width: int | None = None
        height: int | None = None
        num_inference_steps: int | None = None
        guidance_scale: float | None = None
        seed: int | None = None
        model: str | None = None
        solver: str | None = None

    app = FastAPI()

    async def generate(asked: Any) -> dict[str, Any]:
        return {"job_id": asked.prompt, "status": "queued", "eta_seconds": 0.0, "seed": asked.seed}

    generate.__annotations__["asked"] = Generate
    app.post("/v1/generate", status_code=202)(generate)
    uvicorn.run(app, port=port, log_level="error", access_log=False, server_header=False)


def eta_errors(seed: int) -> tuple[float, float]:
    """The median of |told - took| / took, of jobs that come by Poisson to a model of three sizes
    whose times stray by a tenth, and the share of them that is done within the 80th percentile that
    was told; the first fifth is what it learns from."""
    draw, pace, database = np.random.default_rng(seed), Pace(), Database.in_memory()
    sides = draw.choice([32, 64, 128], JOBS)
    steps = draw.choice([4, 50], JOBS)
    work = steps * (sides / 64.0) ** 2 * 0.01
    real = work * np.exp(STRAYS * draw.standard_normal(JOBS))
    comes = np.cumsum(draw.exponential(float(work.mean()) / LOAD, JOBS))
    told, ends, ids, within = {}, {}, {}, {}
    now, at = 0.0, 0
    try:
        while len(ends) < JOBS:
            while at < JOBS and comes[at] <= now:
                job_id, eta = _accepted(database, pace, int(sides[at]), int(steps[at]), comes[at])
                ids[job_id], told[job_id], at = at, eta, at + 1
            found = database.write_now(lambda c, t=now: store.claim(c, t, t, 1e9))
            if found.row is None:
                now = float(comes[at])
                continue
            job_id, fence = found.row["id"], found.row["fence"]
            seconds = float(real[ids[job_id]])
            while at < JOBS and comes[at] <= now + seconds:
                other, eta = _accepted(database, pace, int(sides[at]), int(steps[at]), comes[at])
                ids[other], told[other], at = at, eta, at + 1
            now += seconds
            result = {"engine_seconds": seconds}
            database.write_now(
                lambda c, j=job_id, f=fence, r=result, t=now: store.complete(c, j, f, r, [], t)
            )
            pace.learn(found.row["spec"], seconds)
            ends[job_id] = now - comes[ids[job_id]]
            _, within[job_id] = pace.ended(told[job_id], ends[job_id])
    finally:
        database.close()
    errors = {j: abs(told[j] - ends[j]) / ends[j] for j in ends}
    counted = [j for j in errors if ids[j] >= JOBS // 5]
    share = sum(within[j] for j in counted) / len(counted)
    return median(errors[j] for j in counted), share


def _accepted(
    database: Database, pace: Pace, side: int, steps: int, wall: float
) -> tuple[str, float]:
    spec = {"kind": "paint", "model": "painter", "width": side, "height": side, "steps": steps,
            "guidance": 3.0}  # fmt: skip
    wanted = Wanted(kind="paint", spec=spec, cost=pace.price(spec), steps=steps)

    done = database.write_now(lambda c: accepting.accept(c, "local", [wanted], float(wall)))
    return done.ids[0], done.etas[0]


if __name__ == "__main__":
    {"ours": ours, "bare": bare}[sys.argv[1]](int(sys.argv[2]))
