"""The page signs in by a cookie that no script can read, and no other site can use."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import update

from diptych.service.api.asking import COOKIE
from diptych.service.api.shapes import SessionShape
from diptych.service.jobs.schema import api_key
from tests.service.api.house import house, slug


def test_sign_in_ask_and_sign_out(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, keys_required=True) as at:
            key = at.key("ann")["authorization"].removeprefix("Bearer ")
            answer = await at.client.post("/v1/session", json={"key": key})
            told = SessionShape.model_validate(answer.json())
            assert (told.owner, told.role, told.keys) == ("ann", "user", True)
            cookie = answer.headers["set-cookie"].lower()
            assert (
                "httponly" in cookie and "samesite=strict" in cookie and key.lower() not in cookie
            )
            job_id = (await at.generate())["job_id"]
            assert (await at.ended(job_id))["status"] == "complete"
            foreign = {"origin": "https://evil.example"}
            answer = await at.client.post("/v1/generate", json={"prompt": "a"}, headers=foreign)
            assert answer.status_code == 403
            assert (await at.client.delete("/v1/session")).status_code == 204
            assert (await at.client.get("/v1/session")).status_code == 401

    asyncio.run(run())


def test_a_revoked_key_ends_its_sessions(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, keys_required=True) as at:
            key = at.key("ann")["authorization"].removeprefix("Bearer ")
            await at.client.post("/v1/session", json={"key": key})
            assert (await at.client.get("/v1/jobs")).status_code == 200
            at.state.database.read(lambda c: c.execute(update(api_key).values(revoked=1.0)))
            answer = await at.client.get("/v1/jobs")
            assert (answer.status_code, slug(answer)) == (401, "unauthorized")

    asyncio.run(run())


def test_a_cookie_of_ones_own_making(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, keys_required=True, session_seconds=1) as at:
            key = at.key("ann")["authorization"].removeprefix("Bearer ")
            await at.client.post("/v1/session", json={"key": key})
            good = at.client.cookies[COOKIE]
            sha, until, signature = good.split(".")
            at.client.cookies.clear()
            for bad in (
                f"{sha}.{int(until) + 9}.{signature}",
                f"{'0' * 64}.{until}.{signature}",
                sha,
            ):
                headers = {"cookie": f"{COOKIE}={bad}"}
                assert (await at.client.get("/v1/jobs", headers=headers)).status_code == 401
            headers = {"cookie": f"{COOKIE}={good}"}
            assert (await at.client.get("/v1/jobs", headers=headers)).status_code == 200
            await asyncio.sleep(1.1)
            assert (await at.client.get("/v1/jobs", headers=headers)).status_code == 401

    asyncio.run(run())


def test_a_wrong_key_and_no_keys_at_all(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            answer = await at.client.post("/v1/session", json={"key": "dpt_x"})
            assert (answer.status_code, slug(answer)) == (401, "unauthorized")
            assert "set-cookie" not in answer.headers
            told = (await at.client.get("/v1/session")).json()
            assert told == {"owner": "local", "role": "admin", "keys": False}

    asyncio.run(run())


def test_another_address_demands_keys(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, host="0.0.0.0") as at:
            assert (await at.client.get("/v1/jobs")).status_code == 401

    asyncio.run(run())
