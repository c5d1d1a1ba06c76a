"""Health, the figures, the document, and what becomes of faults (14, 33, 40, 50)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diptych.foundation.errors import NotWritten
from tests.service.api.house import Worker, house, slug


def test_ready_is_a_commit_and_at_most_one_a_second(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(state="starting")) as at:
            await asyncio.sleep(0.05)  # the worker has looked for work
            write, count = at.state.database.write, 0

            async def counted(run: Any) -> Any:
                nonlocal count
                count += 1
                return await write(run)

            object.__setattr__(at.state.database, "write", counted)
            for path in ["/readyz"] * 20:
                answer = await at.client.get(path)
                assert answer.status_code == 200 and answer.json()["engine"] == "starting"
            assert count == 1

    asyncio.run(run())


def test_40_a_database_that_does_not_write(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:

            async def locked(*asked: Any) -> Any:
                raise NotWritten("The database is locked.")

            for way in ("write", "write_each"):
                object.__setattr__(at.state.database, way, locked)
            answer = await at.client.post("/v1/generate", json={"prompt": "a cube"})
            assert (answer.status_code, slug(answer)) == (503, "busy")
            assert "locked" not in answer.text and answer.headers["retry-after"]
            assert (await at.client.get("/readyz")).status_code == 503
            assert (await at.client.get("/healthz")).status_code == 200

    asyncio.run(run())


def test_a_fault_of_ours_says_nothing(tmp_path: Path) -> None:
    class Broken(Worker):
        def price(self, spec: object) -> float:
            raise RuntimeError("/srv/secret/file.py")

    async def run() -> None:
        async with house(tmp_path, worker=Broken()) as at:
            answer = await at.client.post("/v1/generate", json={"prompt": "a cube"})
            assert (answer.status_code, slug(answer)) == (500, "internal")
            assert "secret" not in answer.text and "RuntimeError" not in answer.text

    asyncio.run(run())


def test_figures_of_what_fails_and_what_was_there_already(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            for _ in range(2):
                told = await at.generate(seed=1)
                await at.ended(told["job_id"])
            text = (await at.client.get("/metrics")).text
            assert 'diptych_cache_hits_total{kind="paint"} 1.0' in text
            assert 'diptych_answer_seconds_count{route="POST /v1/generate"} 2.0' in text
            assert "cube" not in text

    asyncio.run(run())


def test_figures(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(frozen=True, cost=1.0)) as at:
            await at.generate()
            text = (await at.client.get("/metrics")).text
            assert 'diptych_jobs{status="queued"} 1' in text
            assert "diptych_queue_seconds 4.0" in text
            assert 'diptych_answers_total{route="POST /v1/generate",status="202"} 1.0' in text

    asyncio.run(run())


@pytest.mark.parametrize(
    ("headers", "status", "kind"),
    [
        ({"host": "evil.example"}, 421, "misdirected"),
        ({"origin": "https://evil.example"}, 403, "foreign-origin"),
        ({"accept": "text/html"}, 406, "not-acceptable"),
        ({"content-type": "text/plain"}, 415, "unsupported-media-type"),
    ],
)
def test_14_and_20_the_gates_are_around_it(
    headers: dict[str, str], status: int, kind: str, tmp_path: Path
) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            given = {"content-type": "application/json", **headers}
            answer = await at.client.post("/v1/generate", content='{"prompt":"a"}', headers=given)
            assert (answer.status_code, slug(answer)) == (status, kind) and at.number() == 0

    asyncio.run(run())


def test_unknown_places_and_methods(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            answer = await at.client.get("/v1/nothing")
            assert (answer.status_code, slug(answer)) == (404, "not-found")
            answer = await at.client.get("/v1/generate")
            assert (answer.status_code, slug(answer)) == (405, "method-not-allowed")
            assert "POST" in answer.headers["allow"]

    asyncio.run(run())


def test_the_document_has_every_route_and_says_what_problems_are(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            told = (await at.client.get("/openapi.json")).json()
            assert told["openapi"].startswith("3.1")
            generate = told["paths"]["/v1/generate"]["post"]
            assert {"202", "404", "422", "503", "507"} <= generate["responses"].keys()
            assert "Idempotency-Key" in {p["name"] for p in generate["parameters"]}
            problem = generate["responses"]["422"]["content"]["application/problem+json"]
            assert problem["schema"]["$ref"].rpartition("/")[2] in told["components"]["schemas"]
            for path, verbs in told["paths"].items():
                for verb in verbs.values():
                    named = {p["name"] for p in verb["parameters"] if p["in"] == "path"}
                    assert named == {part[1:-1] for part in path.split("/") if part[:1] == "{"}

    asyncio.run(run())


def test_torch_is_never_imported() -> None:
    code = "import sys, diptych.service.api.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_before_the_engine_has_told_its_models_it_is_busy(tmp_path: Path) -> None:
    async def run() -> None:
        for state, status in (("starting", 503), ("broken", 404)):
            async with house(tmp_path, worker=Worker(models={}, state=state)) as at:
                answer = await at.client.post("/v1/generate", json={"prompt": "a cube"})
                assert answer.status_code == status
                assert ("retry-after" in answer.headers) == (status == 503)

    asyncio.run(run())
