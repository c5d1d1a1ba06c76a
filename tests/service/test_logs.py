"""A line a request and a job, as text or JSON, that tells nothing of what was sent."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from diptych.service import logs
from diptych.service.guards.moderation import word_list
from diptych.service.jobs.machine import Job
from diptych.service.jobs.store import Moved
from tests.service.api.house import house

SECRET = "zanzibar"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    handlers, level = list(logs.LOG.handlers), logs.LOG.level
    yield
    logs.LOG.handlers[:], logs.LOG.propagate = handlers, True
    logs.LOG.setLevel(level)


def lines(form: str, folder: Path) -> list[str]:
    """What is written of a request that is accepted and one that is refused."""
    to = io.StringIO()
    logs.begin(form, to)

    async def run() -> None:
        async with house(folder, gate=word_list([SECRET])) as at:
            answer = await at.client.post("/v1/generate", json={"prompt": "a red cube"})
            assert answer.headers["x-request-id"] in to.getvalue() or not form
            await at.client.post("/v1/generate", json={"prompt": f"a {SECRET} cube"})

    asyncio.run(run())
    logs.moved(Moved("j1", "ann", Job(status="failed", error="poison", attempt=3), 5, "failed"))
    assert "cube" not in to.getvalue() and SECRET not in to.getvalue()
    return to.getvalue().splitlines()


def test_as_json(tmp_path: Path):
    found = [json.loads(line) for line in lines("json", tmp_path)]
    request, gate, refused, failed = found
    assert request["route"] == "POST /v1/generate" and request["status"] == 202
    assert request["level"] == "INFO" and request["timestamp"] and request["ms"] > 0
    assert gate["level"] == "WARNING" and len(gate["prompt_sha256"]) == 64
    assert refused["status"] == 403
    assert failed["message"] == "job failed" and failed["code"] == "poison"


def test_as_text(tmp_path: Path):
    first = lines("text", tmp_path)[0]
    assert 'info request route="POST /v1/generate" status=202' in first


def test_by_default_only_what_goes_wrong(tmp_path: Path):
    (only,) = lines("", tmp_path)
    assert "warning refused by the gate" in only


def test_an_operators_own_handler_gets_them(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "diptych.service"):
        logs.answered("GET /health", 200, 0.001, "r1")
    (record,) = caplog.records
    assert record.__dict__["request_id"] == "r1"
