"""Thumbs come back with all that made the pictures, and in pairs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from diptych.service.api.shapes import RatingsShape
from tests.service.api.house import house


def test_ratings_as_a_preference_set(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            ids: list[str] = []
            for seed, prompt in enumerate(["a cube", "a cube", "a cube", "a ball"]):
                told = await at.generate(prompt=prompt, seed=seed)
                ids.append(told["job_id"])
                await at.ended(ids[-1])
            for job_id, value in zip(ids, (1, -1, -1, 1), strict=True):
                answer = await at.client.put(f"/v1/jobs/{job_id}/rating", json={"value": value})
                assert answer.status_code == 200
            answer = await at.client.get("/v1/ratings")
            told = RatingsShape.model_validate(answer.json())
            assert [one.value for one in told.ratings] == [1, -1, -1, 1]
            assert told.ratings[1].request["seed"] == 1 and len(told.ratings[1].sha256) == 64
            pairs = {(one.chosen, one.rejected) for one in told.pairs}
            assert pairs == {(ids[0], ids[1]), (ids[0], ids[2])}, "only of one prompt"
            await at.client.put(f"/v1/jobs/{ids[1]}/rating", json={"value": 0})
            await at.client.delete(f"/v1/jobs/{ids[2]}")
            left = (await at.client.get("/v1/ratings")).json()
            assert [one["job_id"] for one in left["ratings"]] == [ids[0], ids[3]]
            assert left["pairs"] == []

    asyncio.run(run())
