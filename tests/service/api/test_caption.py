"""POST /v1/caption: one picture from one source (15 to 22, 27), read by an ordinary job."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from diptych.service.api import reads
from diptych.service.api.shapes import CaptionShape
from tests.service.api.house import House, Worker, b64, house, png, slug

PNG = png(24, 16)


def spec(at: House, job_id: str) -> dict[str, Any]:
    row = at.state.database.read(lambda c: reads.job_of(c, job_id))
    assert row is not None
    return row.spec


TASKS = [("caption", "caption"), ("detailed_caption", "describe"), ("ocr", "read"), ("vqa", None)]


@pytest.mark.parametrize(("task", "named"), TASKS)
def test_every_task(task: str, named: str | None, tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            asked = {"image": b64(PNG), "task": task}
            if task == "vqa":
                asked["question"] = "How many?"
            answer = await at.client.post("/v1/caption", json=asked)
            told = CaptionShape.model_validate(answer.json())
            assert told.caption == "one red cube" and told.confidence is None
            assert told.score == 0.75 and told.processing_time == 0.25
            written = spec(at, told.job_id)
            assert written["task"] == named and written["question"] == asked.get("question")
            assert at.state.artifacts.get(written["picture"]) is not None

    asyncio.run(run())


def test_the_sources_give_one_picture(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:

            async def fetch(url: str) -> bytes:
                assert url == "http://example.com/a.png"
                return PNG

            object.__setattr__(at.state, "fetch", fetch)
            answers = [
                await at.client.post("/v1/caption", json={"image": b64(PNG)}),
                await at.client.post("/v1/caption", json={"base64": b64(PNG)}),
                await at.client.post("/v1/caption", json={"image_url": "http://example.com/a.png"}),
                await at.client.post("/v1/caption", files={"image": ("x.exe", PNG, "text/html")}),
            ]
            seen = {spec(at, answer.json()["job_id"])["picture"] for answer in answers}
            assert len(seen) == 1

    asyncio.run(run())


def test_a_picture_of_ours_is_read_by_its_address(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            url = (await at.ended((await at.generate())["job_id"]))["image_url"]
            assert (await at.client.post("/v1/caption", json={"image_url": url})).status_code == 200
            answer = await at.client.post("/v1/caption", json={"image_url": url[:-1]})
            assert (answer.status_code, slug(answer)) == (403, "bad-signature")

    asyncio.run(run())


REFUSED = [
    ("15 no picture", {}, 422, "bad-source"),
    ("15 two pictures", {"image": b64(PNG), "image_url": "http://a.de/"}, 422, "bad-source"),
    ("16 junk in base64", {"image": "!" + b64(PNG)}, 422, "bad-base64"),
    ("17 no picture of ours", {"image": b64(b"<svg></svg>" * 9)}, 415, "not-a-picture"),
    ("20 half a picture", {"image": b64(PNG[:60])}, 422, "broken-picture"),
    ("26 a file", {"image_url": "file:///etc/passwd"}, 422, "bad-url"),
    ("27 this machine", {"image_url": "http://127.0.0.1/x"}, 403, "blocked-address"),
    ("a question too much", {"image": b64(PNG), "question": "Why?"}, 422, "bad-field"),
    ("no question", {"image": b64(PNG), "task": "vqa"}, 422, "bad-field"),
    ("9 no words", {"image": b64(PNG), "task": "vqa", "question": "\u200b"}, 422, "empty-text"),
    ("no such model", {"image": b64(PNG), "model": "x"}, 404, "unknown-name"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "status", "kind"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_refused_and_nothing_stored(asked: Any, status: int, kind: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            answer = await at.client.post("/v1/caption", json=asked)
            assert (answer.status_code, slug(answer)) == (status, kind)
            assert at.number() == 0 and not at.state.artifacts.files  # type: ignore[attr-defined]

    asyncio.run(run())


def test_15_a_file_and_a_text(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            for also in ({"image_url": "http://a.de/"}, {"base64": "aaaa"}):
                answer = await at.client.post("/v1/caption", data=also, files={"image": PNG})
                assert (answer.status_code, slug(answer)) == (422, "bad-source")
            answer = await at.client.post("/v1/caption", files={"picture": PNG})
            assert (answer.status_code, slug(answer)) == (422, "bad-field")
            assert at.number() == 0

    asyncio.run(run())


def test_who_waits_too_long_gets_the_id(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(frozen=True), longest_wait=0.1) as at:
            answer = await at.client.post("/v1/caption", json={"image": b64(PNG)})
            assert (answer.status_code, slug(answer)) == (504, "not-ready")
            at.worker.frozen = False
            at.worker.ring()
            assert (await at.ended(answer.json()["job_id"]))["result"]["text"]

    asyncio.run(run())


@pytest.mark.parametrize(("code", "status"), [("moderated", 403), ("poison", 500)])
def test_a_job_that_fails_is_no_caption(code: str, status: int, tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(fails=code)) as at:
            answer = await at.client.post("/v1/caption", json={"image": b64(PNG)})
            assert answer.status_code == status and answer.json()["code"] == code

    asyncio.run(run())


def test_a_caption_goes_before_pictures(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(frozen=True)) as at:
            await at.client.post("/v1/batches", json={"requests": [{"prompt": "a"}] * 3})
            await at.generate()
            asked = asyncio.create_task(at.client.post("/v1/caption", json={"image": b64(PNG)}))
            while at.number() < 5:
                await asyncio.sleep(0.01)
            at.worker.frozen = False
            at.worker.ring()
            job_id = (await asked).json()["job_id"]
            assert at.worker.done[0] == job_id

    asyncio.run(run())
