"""The real application over a store in memory, and a small worker that claims and completes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from sqlalchemy import insert

from diptych.service.api import reads
from diptych.service.api.app import make_app
from diptych.service.api.hub import Hub, Live
from diptych.service.api.settings import Settings
from diptych.service.api.state import ModelInfo, State
from diptych.service.guards import keys
from diptych.service.guards.moderation import WordList
from diptych.service.guards.pictures import Decoder
from diptych.service.guards.problem import App
from diptych.service.guards.rates import Rates
from diptych.service.jobs import queries, store
from diptych.service.jobs.database import Database
from diptych.service.jobs.schema import api_key
from diptych.service.jobs.store import Stored

PAINTER = ModelInfo(
    name="painter", does="paint", size=(64, 64), multiple=8, most_side=256, most_steps=50,
    steps=4, guidance=3.0, solvers=("euler", "heun"), fingerprint="f1", model_hash="a" * 64,
    begins="",
)  # fmt: skip
SMALL = ModelInfo(
    name="scenes", does="paint", size=(64, 64), multiple=16, most_side=64, most_steps=20, steps=4,
    guidance=2.0, words=("a", "red", "cube", "left", "of"), fingerprint="f2",
)  # fmt: skip
READER = ModelInfo(name="reader", does="read", chats=True, fingerprint="f3")
EMBEDDER = ModelInfo(name="clip", does="embed", fingerprint="f4")
MODELS = {one.name: one for one in (PAINTER, SMALL, READER, EMBEDDER)}


@dataclass
class Artifacts:
    files: dict[str, bytes] = field(default_factory=dict)

    def put(self, content: bytes, media: str, role: str) -> Stored:
        sha256 = hashlib.sha256(content).hexdigest()
        self.files[sha256] = content
        return Stored(sha256, media, len(content), role)

    def get(self, sha256: str) -> bytes | None:
        return self.files.get(sha256)


@dataclass
class Worker:
    """Claims jobs one by one. `frozen`: it claims none; `slow`: seconds a step."""

    models: Mapping[str, ModelInfo] = field(default_factory=lambda: MODELS)
    state: str = "ready"
    frozen: bool = False
    slow: float = 0.0
    fails: str = ""
    cost: float = 0.01
    late: float = 1.5
    rings: int = 0
    done: list[str] = field(default_factory=list)
    bell: asyncio.Event = field(default_factory=asyncio.Event)

    def ring(self) -> None:
        self.rings += 1
        self.bell.set()

    def price(self, spec: Mapping[str, Any]) -> float:
        return self.cost * max(1, spec.get("steps", 1))

    async def run(self, state: State) -> None:
        while True:
            self.bell.clear()
            while not self.frozen and await self._one(state):
                pass
            await self.bell.wait()

    async def _one(self, state: State) -> bool:
        now = time.time()
        claimed = await state.database.write(lambda c: store.claim(c, now, now, 30.0))
        if claimed.moved is None:
            return False
        state.hub.publish(claimed.moved)
        job_id, fence = claimed.row["id"], claimed.row["fence"]
        for step in range(max(1, claimed.row["steps"])):
            state.hub.publish(Live(job_id, "step", {"step": step + 1}))
            state.hub.publish(Live(job_id, "preview", {"png": b64(png(8, 8)), "step": step + 1}))
            await asyncio.sleep(self.slow)
            told = [store.Progress(job_id, fence, step + 1)]
            held = await state.database.write(lambda c, t=told: store.renew(c, t, now + 30, now))
            if held[job_id] == "cancel":
                moved = await state.database.write(
                    lambda c: store.canceled(c, job_id, fence, time.time())
                )
                state.hub.publish(moved)
                return True
        await self._ended(state, claimed.row, fence)
        return True

    async def _ended(self, state: State, row: Mapping[str, Any], fence: int) -> None:
        job_id, wall = row["id"], time.time()
        if self.fails:
            moved = await state.database.write(
                lambda c: store.fail(c, job_id, fence, self.fails, "It did not work.", wall)
            )
        else:
            result, stored = made(state, row["spec"])
            for piece in re.findall(r"\S+ ?", str(result.get("text", ""))):
                state.hub.publish(Live(job_id, "text", {"text": piece}))
            moved = await state.database.write(
                lambda c: store.complete(c, job_id, fence, result, stored, wall)
            )
        self.done.append(job_id)
        if moved is not None:
            state.hub.publish(moved)


def made(state: State, spec: Mapping[str, Any]) -> tuple[dict[str, Any], list[Stored]]:
    if spec["kind"] == "paint":
        content = png(spec["width"], spec["height"], spec["seed"])
        result = {
            "generation_time": 0.5,
            "fingerprint": state.engine.models[spec["model"]].fingerprint,
        }
        result |= {"width": spec["width"], "height": spec["height"]}
        return result, [state.artifacts.put(content, "image/png", "picture")]
    if spec["kind"] == "embed":
        number = len(spec["texts"]) + len(spec["pictures"])
        return {"vectors": [[0.5, -0.25, i] for i in range(number)], "processing_time": 0.1}, []
    text = "one red cube"
    return {"text": text, "confidence": None, "score": 0.75, "processing_time": 0.25}, []


def png(width: int, height: int, seed: int = 0) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, height), (seed % 256, 40, 90)).save(content, format="PNG")
    return content.getvalue()


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@dataclass
class House:
    client: httpx.AsyncClient
    state: State
    worker: Worker
    app: App

    async def generate(self, **fields: Any) -> dict[str, Any]:
        answer = await self.client.post("/v1/generate", json={"prompt": "a red cube", **fields})
        assert answer.status_code == 202, answer.text
        return answer.json()

    async def ended(self, job_id: str) -> dict[str, Any]:
        """The job when it is done."""
        for _ in range(500):
            told = (await self.client.get(f"/v1/jobs/{job_id}")).json()
            if told["status"] in ("complete", "failed", "canceled"):
                return told
            await asyncio.sleep(0.01)
        raise AssertionError(f"job {job_id} does not end")

    def number(self) -> int:
        """How many jobs there are."""
        return sum(self.state.database.read(queries.counts).values())

    def key(self, owner: str, role: keys.Role = "user") -> dict[str, str]:
        """A new key of somebody, as headers."""
        text, key = keys.new_key(owner, role)
        row = {"id": key.prefix, "sha256": key.sha256, "owner": owner, "role": role, "created": 0}
        self.state.database.read(lambda c: c.execute(insert(api_key), row))
        return {"authorization": f"Bearer {text}"}


@asynccontextmanager
async def house(
    folder: Path, *, worker: Worker | None = None, gate: WordList | None = None, **settings: Any
) -> AsyncIterator[House]:
    settings = {"disk_bytes": 1, "disk_share": 0.0, **settings}
    given = Settings(data=folder, **settings)
    database, worker = Database.in_memory(), worker or Worker()
    state = State(
        settings=given, database=database, artifacts=Artifacts(), engine=worker, hub=Hub(),
        decoder=Decoder(processes=1), secret=b"s" * 32, gate=gate or WordList(),
        rates=Rates(per_user=given.per_user, per_address=given.per_address),
        keys=lambda sha: database.read(lambda c: reads.key_of(c, sha)),
    )  # fmt: skip
    app = make_app(state)
    transport = httpx.ASGITransport(app=app)
    running = asyncio.create_task(worker.run(state))
    try:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost:8188"
        ) as client:
            yield House(client, state, worker, app)
    finally:
        running.cancel()
        await asyncio.wait([running])
        await state.decoder.close()
        database.close()
    if not running.cancelled() and (error := running.exception()):
        raise error


def slug(answer: httpx.Response) -> str:
    """What kind of refusal it is."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code and body["request_id"]
    return body["type"].removeprefix("/problems/")
