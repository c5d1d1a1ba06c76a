"""Jobs over HTTP: whose they are (38), what their owner does with them (47), and how they end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from diptych.service.api.shapes import DeletedShape, JobShape, JobsShape, QueueShape
from tests.service.api.house import Worker, house, slug

VERBS = [
    ("GET", "", None), ("DELETE", "", None), ("GET", "/events", None), ("POST", "/cancel", None),
    ("POST", "/hold", None), ("POST", "/release", None), ("POST", "/move", {"index": 0}),
    ("POST", "/undo", None), ("PUT", "/rating", {"value": 1}), ("PUT", "/star", {"starred": True}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "verb", "body"), VERBS)
def test_38_a_strangers_job_is_no_job(
    method: str, verb: str, body: dict[str, int] | None, tmp_path: Path
) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(frozen=True), keys_required=True) as at:
            mine, other = at.key("ann"), at.key("bob")
            asked = {"prompt": "a cube"}
            answer = await at.client.post("/v1/generate", json=asked, headers=mine)
            path = f"/v1/jobs/{answer.json()['job_id']}"
            before = (await at.client.get(path, headers=mine)).json()
            answers = [
                await at.client.request(method, p + verb, json=body, headers=other)
                for p in (path, "/v1/jobs/none")
            ]
            for answer in answers:
                assert (answer.status_code, slug(answer)) == (404, "not-found")
            # Not even by a word does it differ from a job that is not there.
            assert answers[0].json()["detail"] == answers[1].json()["detail"]
            assert (await at.client.get(path, headers=mine)).json() == before

    asyncio.run(run())


def test_38_without_a_valid_key(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, keys_required=True) as at:
            for headers in (
                {},
                {"authorization": "Bearer dpt_" + "x" * 43},
                {"cookie": "diptych_session=a.1.b"},
            ):
                answer = await at.client.post("/v1/generate", json={"prompt": "a"}, headers=headers)
                assert (answer.status_code, slug(answer)) == (401, "unauthorized")
                assert answer.headers["www-authenticate"] == "Bearer"
            assert at.number() == 0
            assert (await at.client.get("/healthz")).status_code == 200
            answer = await at.client.get("/metrics", headers=at.key("ann"))
            assert (answer.status_code, slug(answer)) == (403, "forbidden")
            answer = await at.client.get("/metrics", headers=at.key("root", "admin"))
            assert answer.status_code == 200

    asyncio.run(run())


def test_lists_are_the_owners_own_by_pages(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            ids = [(await at.generate(seed=i))["job_id"] for i in range(5)]
            await asyncio.gather(*map(at.ended, ids))
            seen, before = [], ""
            while before is not None:
                answer = await at.client.get(f"/v1/jobs?limit=2&before={before}&status=complete")
                page = JobsShape.model_validate(answer.json())
                seen += [job.job_id for job in page.jobs]
                before = page.next
            assert sorted(seen) == sorted(ids) and len(set(seen)) == 5
            for bad in ("limit=0", "limit=201", "status=done", "limit=x", "a=1", "limit=1&limit=2"):
                answer = await at.client.get(f"/v1/jobs?{bad}")
                assert (answer.status_code, slug(answer)) == (422, "bad-field"), bad

    asyncio.run(run())


def test_cancel_of_a_queued_job_is_at_once(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(frozen=True)) as at:
            path = f"/v1/jobs/{(await at.generate())['job_id']}"
            answer = await at.client.post(f"{path}/cancel")
            assert answer.status_code == 200 and answer.json()["status"] == "canceled"

    asyncio.run(run())


def test_cancel_of_a_running_job_ends_it_at_a_step(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(slow=0.02)) as at:
            job_id = (await at.generate(num_inference_steps=50))["job_id"]
            while (await at.client.get(f"/v1/jobs/{job_id}")).json()["status"] == "queued":
                await asyncio.sleep(0.01)
            for _ in range(2):  # a second word changes nothing
                answer = await at.client.post(f"/v1/jobs/{job_id}/cancel")
                assert answer.status_code == 202 and answer.json()["cancel_asked"]
            told = await at.ended(job_id)
            assert told["status"] == "canceled" and told["step"] < 50 and not told["image_url"]

    asyncio.run(run())


@pytest.mark.parametrize("verb", ["cancel", "hold", "release", "move", "undo"])
def test_47_what_has_ended_stays(verb: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            told = await at.ended((await at.generate())["job_id"])
            body = {"index": 0} if verb == "move" else None
            answer = await at.client.post(f"/v1/jobs/{told['job_id']}/{verb}", json=body)
            assert (answer.status_code, slug(answer)) == (409, "wrong-state")
            assert answer.json()["job_status"] == "complete"
            assert await at.ended(told["job_id"]) == told

    asyncio.run(run())


def test_a_held_job_waits_and_a_paused_owner_too(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(frozen=True)) as at:
            job_id = (await at.generate())["job_id"]
            answer = await at.client.post(f"/v1/jobs/{job_id}/hold")
            assert JobShape.model_validate(answer.json()).held
            at.worker.frozen = False
            other = (await at.generate())["job_id"]
            await at.ended(other)
            assert (await at.client.get(f"/v1/jobs/{job_id}")).json()["status"] == "queued"
            assert (await at.client.post("/v1/queue/pause")).json()["paused"]
            await at.client.post(f"/v1/jobs/{job_id}/release")
            await asyncio.sleep(0.05)
            assert (await at.client.get(f"/v1/jobs/{job_id}")).json()["status"] == "queued"
            answer = await at.client.post("/v1/queue/resume")
            assert not QueueShape.model_validate(answer.json()).paused
            assert (await at.ended(job_id))["status"] == "complete"

    asyncio.run(run())


def test_the_queue_is_moved_among_ones_own(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(frozen=True)) as at:
            ids = [(await at.generate())["job_id"] for _ in range(4)]
            answer = await at.client.post(f"/v1/jobs/{ids[3]}/move", json={"index": 1})
            assert answer.status_code == 200
            queue = (await at.client.get("/v1/queue")).json()["jobs"]
            want = [ids[0], ids[3], ids[1], ids[2]]
            assert [job["job_id"] for job in queue] == want
            etas = [job["eta_seconds"] for job in queue]
            assert etas == pytest.approx([0.04, 0.08, 0.12, 0.16])
            at.worker.frozen = False
            at.worker.ring()
            await asyncio.gather(*map(at.ended, ids))
            assert at.worker.done == want

    asyncio.run(run())


def test_deleted_undone_and_gone(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, undo=0.2) as at:
            told = await at.ended((await at.generate())["job_id"])
            path = f"/v1/jobs/{told['job_id']}"
            for _ in range(2):
                DeletedShape.model_validate((await at.client.delete(path)).json())
                for hidden in (await at.client.get(path), await at.client.get(f"{path}/events")):
                    assert (hidden.status_code, slug(hidden)) == (410, "gone")
                assert (await at.client.get(told["image_url"])).status_code == 404
                assert (await at.client.get("/v1/jobs")).json()["jobs"] == []
                assert (await at.client.post(f"{path}/undo")).json() == told
                assert (await at.client.get(told["image_url"])).status_code == 200
            await at.client.delete(path)
            await asyncio.sleep(0.25)
            late = await at.client.post(f"{path}/undo")
            assert (late.status_code, slug(late)) == (410, "gone")

    asyncio.run(run())


def test_a_queued_job_that_is_deleted_is_never_painted(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(frozen=True)) as at:
            job_id = (await at.generate())["job_id"]
            await at.client.delete(f"/v1/jobs/{job_id}")
            at.worker.frozen = False
            await at.ended((await at.generate())["job_id"])
            assert job_id not in at.worker.done

    asyncio.run(run())


def test_thumbs_and_stars(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            path = f"/v1/jobs/{(await at.generate())['job_id']}"
            for value in (1, -1, 0):
                answer = await at.client.put(f"{path}/rating", json={"value": value})
                assert answer.json()["rating"] == value
            assert (await at.client.put(f"{path}/star", json={"starred": True})).json()["starred"]
            for bad in (2, "1", True, 1.0):
                answer = await at.client.put(f"{path}/rating", json={"value": bad})
                assert answer.status_code == 422, bad

    asyncio.run(run())


def test_a_failure_says_its_code(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, worker=Worker(fails="not-finite")) as at:
            told = JobShape.model_validate(await at.ended((await at.generate())["job_id"]))
            assert told.status == "failed" and told.image_url is None
            assert told.error and told.error.code == "not-finite" and told.error.detail

    asyncio.run(run())


def test_a_picture_needs_its_signature(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            url = (await at.ended((await at.generate())["job_id"]))["image_url"]
            sha = url.partition("/pictures/")[2][:64]
            bare, other = url.partition("?")[0], url.replace(sha, "0" * 64)
            for bad in (bare, url[:-1], other, url.replace("expires=1", "expires=2")):
                answer = await at.client.get(bad)
                assert (answer.status_code, slug(answer)) == (403, "bad-signature"), bad

    asyncio.run(run())
