"""A file that is missing or altered is painted again from spec and seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.service.api.house import SMALL, House, house, slug

SPEC = {"seed": 7, "num_inference_steps": 2, "model": "painter"}


def in_house(folder: Path, test: Callable[[House], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with house(folder) as found:
            await test(found)

    asyncio.run(run())


async def painted(home: House) -> tuple[str, bytes]:
    """The address of a picture and its bytes."""
    job = await home.ended((await home.generate(**SPEC))["job_id"])
    return job["image_url"], (await home.client.get(job["image_url"])).content


async def anew(home: House, url: str) -> bytes:
    for _ in range(300):
        answer = await home.client.get(url)
        if answer.status_code == 200:
            return answer.content
        assert slug(answer) == "busy" and answer.headers["retry-after"] == "5"
        await asyncio.sleep(0.01)
    raise AssertionError("it does not come back")


def test_49_a_missing_picture_is_painted_again(tmp_path: Path):
    async def test(home: House) -> None:
        url, before = await painted(home)
        home.worker.frozen = True
        home.state.artifacts.files.clear()  # pyright: ignore
        jobs = home.number()
        for _ in range(3):  # asked for often, it is painted once
            assert slug(await home.client.get(url)) == "busy"
        assert home.number() == jobs + 1
        home.worker.frozen = False
        home.worker.ring()
        assert await anew(home, url) == before

    in_house(tmp_path, test)


def test_49_other_weights_would_give_another_picture(tmp_path: Path):
    async def test(home: House) -> None:
        url, _ = await painted(home)
        home.state.artifacts.files.clear()  # pyright: ignore
        home.worker.models = {"painter": SMALL}
        jobs = home.number()
        assert slug(await home.client.get(url)) == "not-found"
        assert home.number() == jobs

    in_house(tmp_path, test)


def test_49_what_was_deleted_is_not_painted_again(tmp_path: Path):
    async def test(home: House) -> None:
        url, _ = await painted(home)
        job = (await home.client.get("/v1/jobs")).json()["jobs"][0]["job_id"]
        assert (await home.client.delete(f"/v1/jobs/{job}")).status_code == 200
        home.state.artifacts.files.clear()  # pyright: ignore
        assert slug(await home.client.get(url)) == "not-found"
        assert home.number() <= 1

    in_house(tmp_path, test)
