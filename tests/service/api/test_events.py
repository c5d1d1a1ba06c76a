"""Events over HTTP: gapless after any Last-Event-ID (48), and one who leaves disturbs nobody (34,
35)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from diptych.service.guards.problem import Message, Scope
from tests.service.api.house import House, Worker, house, slug


def read(text: str) -> list[tuple[int | None, str, dict[str, Any]]]:
    """Number, kind and data of each event; comments are left out."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
        if fields:
            number = int(fields["id"]) if "id" in fields else None
            found.append((number, fields["event"], json.loads(fields["data"])))
    return found


def durable(text: str) -> list[tuple[int, str]]:
    return [(number, kind) for number, kind, _ in read(text) if number is not None]


async def followed(at: House, job_id: str, last: str = "") -> str:
    headers = {"last-event-id": last} if last else {}
    return (await at.client.get(f"/v1/jobs/{job_id}/events", headers=headers)).text


def test_all_that_happens_in_order(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(frozen=True, slow=0.005)) as at:
            job_id = (await at.generate(num_inference_steps=3))["job_id"]
            stream = asyncio.create_task(followed(at, job_id))
            await asyncio.sleep(0.02)
            at.worker.frozen = False
            at.worker.ring()
            text = await stream
            assert durable(text) == [(1, "queued"), (2, "started"), (3, "complete")]
            live = [(kind, data.get("step")) for number, kind, data in read(text) if number is None]
            want = [(kind, step) for step in (1, 2, 3) for kind in ("step", "preview")]
            assert live == want
            assert read(text)[-1][1] == "complete" and at.state.hub.listeners == 0

    asyncio.run(run())


def test_48_from_any_place_without_a_hole(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(frozen=True)) as at:
            job_id = (await at.generate())["job_id"]
            for verb in ("hold", "release", "hold", "release"):
                await at.client.post(f"/v1/jobs/{job_id}/{verb}")
            at.worker.frozen = False
            at.worker.ring()
            await at.ended(job_id)
            whole = durable(await followed(at, job_id))
            assert [number for number, _ in whole] == list(range(1, 8))
            for last in range(7):
                assert durable(await followed(at, job_id, str(last))) == whole[last:]
            answer = await at.client.get(
                f"/v1/jobs/{job_id}/events", headers={"last-event-id": "7"}
            )
            assert answer.status_code == 204 and not answer.content

    asyncio.run(run())


@pytest.mark.parametrize("last", ["x", "-1", "1e3", "9" * 13, "1.0"])
def test_48_an_id_that_is_none(last: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            path = f"/v1/jobs/{(await at.generate())['job_id']}/events"
            answer = await at.client.get(path, headers={"last-event-id": last})
            assert (answer.status_code, slug(answer)) == (422, "bad-field")

    asyncio.run(run())


def test_no_event_is_missed_between_reading_and_listening(tmp_path: Path) -> None:
    """Many streams begin at all moments of a job's life."""

    async def run() -> None:
        async with house(tmp_path, worker=Worker(slow=0.001)) as at:
            for _ in range(5):
                job_id = (await at.generate(num_inference_steps=5))["job_id"]
                streams = []
                for _ in range(8):
                    streams.append(asyncio.create_task(followed(at, job_id)))
                    await asyncio.sleep(0.001)
                for text in await asyncio.wait_for(asyncio.gather(*streams), 5):
                    assert durable(text) == [(1, "queued"), (2, "started"), (3, "complete")]

    asyncio.run(run())


def test_comments_keep_the_stream_open(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(frozen=True), heartbeat=0.02) as at:
            job_id = (await at.generate())["job_id"]
            stream = asyncio.create_task(followed(at, job_id))
            await asyncio.sleep(0.1)
            at.worker.frozen = False
            at.worker.ring()
            assert (await stream).count(": still here") >= 2

    asyncio.run(run())


def test_35_who_leaves_is_forgotten_and_the_job_runs_on(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(slow=0.01)) as at:
            job_id = (await at.generate())["job_id"]
            await left(at, "GET", f"/v1/jobs/{job_id}/events", b"")
            assert at.state.hub.listeners == 0
            assert (await at.ended(job_id))["status"] == "complete"

    asyncio.run(run())


def test_34_who_leaves_before_the_answer_has_a_job_all_the_same(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            await left(at, "POST", "/v1/generate", b'{"prompt":"a cube"}')
            (told,) = (await at.client.get("/v1/jobs")).json()["jobs"]
            assert (await at.ended(told["job_id"]))["status"] == "complete"

    asyncio.run(run())


async def left(at: House, method: str, path: str, body: bytes) -> None:
    """Ask, and be gone as soon as the body is sent."""
    told = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return told.pop(0) if told else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        await asyncio.sleep(0)

    headers = [(b"host", b"localhost:8188"), (b"content-type", b"application/json")]
    headers += [(b"content-length", str(len(body)).encode())]
    scope: Scope = {
        "type": "http", "method": method, "path": path, "headers": headers, "scheme": "http",
        "query_string": b"", "server": ("localhost", 8188), "client": ("127.0.0.1", 1),
        "root_path": "", "http_version": "1.1", "raw_path": path.encode(),
    }  # fmt: skip
    await asyncio.wait_for(at.app(scope, receive, send), 5)
