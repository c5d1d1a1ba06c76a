"""POST /v1/generate and its neighbours: what is accepted, and what is refused (6, 10 to 13, 36, 37,
39, 41), with nothing stored that should not be."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from diptych.service.api.shapes import AcceptedShape, BatchShape, JobShape, ProblemShape
from diptych.service.guards.moderation import word_list
from tests.service.api.house import Worker, house, slug

SECRET = "zanzibar"


def test_a_picture_from_words_to_its_address(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            asked = {
                "prompt": "a red cube", "negative_prompt": "blue", "width": 64, "height": 32,
                "num_inference_steps": 3, "guidance_scale": 2.5, "seed": 7, "model": "painter",
            }  # fmt: skip
            answer = await at.client.post("/v1/generate", json=asked)
            assert answer.status_code == 202
            told = AcceptedShape.model_validate(answer.json())
            assert told.status == "queued" and told.seed == 7 and told.eta_seconds > 0
            assert answer.headers["location"] == f"/v1/jobs/{told.job_id}"
            job = JobShape.model_validate(await at.ended(told.job_id))
            assert job.status == "complete" and job.generation_time == 0.5 and job.steps == 3
            assert job.image_url and job.image_url.startswith("http://localhost:8188/v1/pictures/")
            picture = await at.client.get(job.image_url)
            assert picture.headers["content-type"] == "image/png"
            assert picture.headers["x-content-type-options"] == "nosniff"
            assert picture.content.startswith(b"\x89PNG")

    asyncio.run(run())


REFUSED = [
    ("6 a seed of 2^63", {"seed": 2**63}, 422, "bad-field", "/seed"),
    ("6 a negative seed", {"seed": -1}, 422, "bad-field", "/seed"),
    ("6 a seed with a fraction", {"seed": 1.0}, 422, "bad-field", "/seed"),
    ("5 a field nobody knows", {SECRET: 1}, 422, "bad-field", f"/{SECRET}"),
    ("5 a number as text", {"width": "64"}, 422, "bad-field", "/width"),
    ("7 a long prompt", {"prompt": SECRET * 1000}, 422, "too-long", "/prompt"),
    ("7 a long other", {"negative_prompt": "a" * 4001}, 422, "too-long", "/negative_prompt"),
    ("9 a prompt nobody sees", {"prompt": "\u200b "}, 422, "empty-text", "/prompt"),
    ("9 an empty prompt", {"prompt": ""}, 422, "empty-text", "/prompt"),
    ("11 no multiple", {"width": 60}, 422, "bad-size", "/width"),
    ("11 no multiple below the first", {"height": 3}, 422, "bad-size", "/height"),
    ("12 a side too long", {"height": 264}, 422, "over-limit", "/height"),
    ("12 too many steps", {"num_inference_steps": 51}, 422, "over-limit", "/num_inference_steps"),
    ("13 no such model", {"model": SECRET}, 404, "unknown-name", "/model"),
    ("13 a model that paints not", {"model": "reader"}, 404, "unknown-name", "/model"),
    ("13 no such solver", {"solver": SECRET}, 422, "bad-field", "/solver"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "status", "kind", "field"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_refused_by_name_and_nothing_stored(
    change: dict[str, Any], status: int, kind: str, field: str, tmp_path: Path
) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            answer = await at.client.post("/v1/generate", json={"prompt": "a cube", **change})
            assert (answer.status_code, slug(answer)) == (status, kind)
            assert answer.json()["field"] == field
            ProblemShape.model_validate(answer.json())
            if field != f"/{SECRET}":
                assert SECRET not in answer.text
            assert at.number() == 0 and at.worker.rings == 0

    asyncio.run(run())


def test_11_the_nearest_size_is_named_and_is_painted(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            asked = {"prompt": "a cube", "width": 61, "height": 250}
            answer = await at.client.post("/v1/generate", json=asked)
            assert answer.json()["nearest"] == {"width": 64, "height": 248}
            await at.generate(**answer.json()["nearest"])

    asyncio.run(run())


def test_words_that_a_small_model_does_not_know(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            known = await at.generate(prompt="A red cube, left of a cube", model="scenes")
            assert known["status"] == "queued"
            asked = {"prompt": "a red dragon left of a <x9>", "model": "scenes"}
            answer = await at.client.post("/v1/generate", json=asked)
            assert (answer.status_code, slug(answer)) == (422, "unknown-words")
            assert answer.json()["unknown_words"] == ["dragon", "x9"]
            assert at.number() == 1

    asyncio.run(run())


def test_a_seed_that_is_not_said_is_drawn_and_told(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            seeds = [(await at.generate())["seed"] for _ in range(4)]
            assert len(set(seeds)) == 4 and all(0 <= seed < 2**63 for seed in seeds)

    asyncio.run(run())


def test_36_one_key_is_one_job(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(frozen=True)) as at:
            headers, asked = {"idempotency-key": "k1"}, {"prompt": "a cube"}
            first, *again = [
                await at.client.post("/v1/generate", json=asked, headers=headers) for _ in range(3)
            ]
            assert all(one.json() == first.json() for one in again)  # the drawn seed too
            assert again[0].headers["idempotent-replayed"] == "true"
            assert at.number() == 1
            other = {"prompt": "a ball"}
            answer = await at.client.post("/v1/generate", json=other, headers=headers)
            assert (answer.status_code, slug(answer)) == (422, "key-reused")
            bad = {"idempotency-key": "x" * 256}
            answer = await at.client.post("/v1/generate", json=asked, headers=bad)
            assert (answer.status_code, slug(answer)) == (422, "bad-field")
            assert at.number() == 1

    asyncio.run(run())


def test_36_a_known_key_is_answered_though_the_queue_is_full(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(frozen=True, cost=1.0), most_cost=5.0) as at:
            headers, asked = {"idempotency-key": "k1"}, {"prompt": "a cube"}
            first = await at.client.post("/v1/generate", json=asked, headers=headers)
            full = await at.client.post("/v1/generate", json=asked)
            assert (full.status_code, slug(full)) == (503, "queue-full")
            assert full.json()["eta_seconds"] == 3 and full.headers["retry-after"] == "3"
            again = await at.client.post("/v1/generate", json=asked, headers=headers)
            assert again.json() == first.json() and at.number() == 1

    asyncio.run(run())


def test_37_the_rate_of_one_user(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, per_user="2/minute") as at:
            await at.generate()
            await at.generate()
            answer = await at.client.post("/v1/generate", json={"prompt": "a cube"})
            assert (answer.status_code, slug(answer)) == (429, "rate-limited")
            assert int(answer.headers["retry-after"]) >= 1
            assert (await at.client.get("/v1/jobs")).status_code == 200

    asyncio.run(run())


def test_39_the_gate_refuses_and_stores_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, gate=word_list([SECRET])) as at:
            for field in ("prompt", "negative_prompt"):
                asked = {"prompt": "a cube", field: f"a {SECRET.upper()}\u200b"}
                answer = await at.client.post("/v1/generate", json=asked)
                assert (answer.status_code, slug(answer)) == (403, "moderated")
                assert SECRET.upper() not in answer.text
            assert at.number() == 0

    asyncio.run(run())


def test_41_no_room_on_the_disk(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, disk_bytes=1 << 62) as at:
            answer = await at.client.post("/v1/generate", json={"prompt": "a cube"})
            assert (answer.status_code, slug(answer)) == (507, "disk-full")
            assert at.number() == 0
            assert (await at.client.get("/v1/jobs")).status_code == 200  # reads go on
            assert (await at.client.get("/readyz")).status_code == 503

    asyncio.run(run())


def test_a_dry_run_prices_and_stores_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(frozen=True, cost=1.0)) as at:
            await at.generate(num_inference_steps=2)
            asked = {"prompt": "a cube", "num_inference_steps": 3}
            answer = await at.client.post("/v1/generate?dry_run=true", json=asked)
            assert answer.status_code == 200
            assert answer.json() == {
                "engine_seconds": 3.0, "eta_seconds": 5.0, "eta_p80_seconds": 7.5,
                "accepted": False,
            }  # fmt: skip
            assert at.number() == 1
            answer = await at.client.post("/v1/generate?dryrun=true", json=asked)
            assert (answer.status_code, slug(answer)) == (422, "bad-field")

    asyncio.run(run())


def test_a_batch_is_all_or_none(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            one = {"prompt": "a cube"}
            for requests in ([], [one] * 65, [one, {**one, "width": 61}]):
                answer = await at.client.post("/v1/batches", json={"requests": requests})
                assert answer.status_code == 422
            assert answer.json()["field"] == "/requests/1/width" and at.number() == 0
            headers = {"idempotency-key": "b"}
            body = {"requests": [{**one, "seed": i} for i in range(64)]}
            answer = await at.client.post("/v1/batches", json=body, headers=headers)
            told = BatchShape.model_validate(answer.json())
            assert answer.status_code == 202 and [job.seed for job in told.jobs] == list(range(64))
            again = await at.client.post("/v1/batches", json=body, headers=headers)
            assert again.json()["batch_id"] == told.batch_id and at.number() == 64

    asyncio.run(run())


def test_an_equal_request_gets_the_picture_at_once(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            first = await at.ended((await at.generate(seed=3))["job_id"])
            again = await at.generate(seed=3)
            assert again["status"] == "complete" and again["eta_seconds"] == 0
            told = await at.ended(again["job_id"])
            assert told["image_url"] == first["image_url"] and told["result"]["cached"]
            assert len(at.worker.done) == 1

    asyncio.run(run())
