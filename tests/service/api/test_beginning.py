"""Pictures to begin from: by /v1/generate and by OpenAI's edits and variations."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from tests.service.api.house import MODELS, House, Worker, b64, house, png, slug
from tests.service.api.test_openai import clients


def spec_of(at: House, job_id: str) -> dict[str, Any]:
    from diptych.service.api.reads import job_of

    row = at.state.database.read(lambda c: job_of(c, job_id))
    assert row is not None
    return row.spec


def shown(at: House, sha256: str) -> np.ndarray:
    content = at.state.artifacts.get(sha256)
    assert content is not None
    return np.asarray(Image.open(io.BytesIO(content)))


def file(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


def test_a_picture_goes_along_and_is_painted_from(tmp_path: Path) -> None:
    """Its own size, where the model paints it; bit for bit."""

    async def run() -> None:
        async with house(tmp_path) as at:
            pixels = np.random.default_rng(0).integers(256, size=(64, 48, 3), dtype=np.uint8)
            told = await at.generate(image=b64(file(pixels)), strength=0.5, seed=3)
            spec = spec_of(at, told["job_id"])
            assert (spec["width"], spec["height"], spec["strength"]) == (48, 64, 0.5)
            assert np.array_equal(shown(at, spec["init"]), pixels) and spec["mask"] is None
            assert (
                "warnings" not in told and (await at.ended(told["job_id"]))["status"] == "complete"
            )
            again = await at.generate(image=b64(file(pixels)), strength=0.5, seed=3)
            assert (await at.ended(again["job_id"]))["result"]["cached"]
            other = await at.generate(image=b64(file(pixels // 2)), strength=0.5, seed=3)
            assert "cached" not in (await at.ended(other["job_id"]))["result"]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("own", "said", "painted"),
    [((640, 480), {}, (72, 56)), ((60, 60), {}, (64, 64)), ((64, 64), {"width": 128}, (128, 64))],
)
def test_what_does_not_fit_is_fitted_and_that_is_said(
    own: tuple[int, int], said: dict[str, int], painted: tuple[int, int], tmp_path: Path
) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            told = await at.generate(image=b64(png(*own)), **said)
            spec = spec_of(at, told["job_id"])
            assert (spec["width"], spec["height"]) == painted
            assert shown(at, spec["init"]).shape == (painted[1], painted[0], 3)
            assert str(painted[0]) in told["warnings"][0]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fields", "status", "kind", "field"),
    [
        ({"mask": b64(png(64, 64))}, 422, "bad-field", "/mask"),
        ({"strength": 0.5}, 422, "bad-field", "/strength"),
        ({"image": b64(png(64, 64)), "strength": 0.0}, 422, "bad-field", "/strength"),
        ({"image": b64(png(64, 64)), "image_url": "http://a.b/c"}, 422, "bad-source", "/image_url"),
        ({"image": b64(png(64, 64)), "mask": b64(png(64, 32))}, 422, "bad-shape", "/mask"),
        ({"image": b64(png(64, 64)), "model": "scenes"}, 400, "not-offered", None),
        ({"image": b64(b"GIF89a")}, 422, "broken-picture", "/image"),
        ({"image": b64(b"%PDF-1.7")}, 415, "not-a-picture", "/image"),
        ({"image": b64(png(64, 64)), "width": 60}, 422, "bad-size", "/width"),
    ],
)
def test_what_is_refused(
    fields: dict[str, Any], status: int, kind: str, field: str | None, tmp_path: Path
) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            answer = await at.client.post("/v1/generate", json={"prompt": "a red cube", **fields})
            assert (answer.status_code, slug(answer)) == (status, kind)
            assert answer.json().get("field") == field
            assert at.number() == 0

    asyncio.run(run())


def test_what_is_clear_in_the_mask_is_painted_anew(tmp_path: Path) -> None:
    async def run() -> None:
        async with clients(tmp_path) as (at, client):
            mask = np.full((64, 64, 4), 255, np.uint8)
            mask[16:32, 8:40, 3] = 0
            made = await client.images.edit(
                image=png(64, 64), mask=file(mask), prompt="a cube", n=2, response_format="b64_json"
            )
            assert made.data and len(made.data) == 2
            spec = spec_of(at, at.worker.done[0])
            assert np.array_equal(shown(at, spec["mask"]) == 255, mask[..., 3] == 0)
            seeds = {spec_of(at, job_id)["seed"] for job_id in at.worker.done}
            assert len(seeds) == 2
            with pytest.raises(openai.UnprocessableEntityError):
                await client.images.edit(image=png(64, 64), mask=png(64, 64), prompt="a cube")

    asyncio.run(run())


def test_an_edit_in_parts(tmp_path: Path) -> None:
    async def run() -> None:
        async with clients(tmp_path) as (_, client):
            stream = await client.images.edit(
                image=png(64, 64), prompt="a cube", stream=True, partial_images=1
            )
            kinds = [one.type async for one in stream]
            assert kinds == ["image_edit.partial_image", "image_edit.completed"]

    asyncio.run(run())


@pytest.mark.filterwarnings("ignore:deprecated")  # by the client: OpenAI gives variations up
def test_a_variation_is_read_first(tmp_path: Path) -> None:
    async def run() -> None:
        async with clients(tmp_path) as (at, client):
            made = await client.images.create_variation(image=png(64, 64), n=2)
            assert made.data and len(made.data) == 2
            read, *painted = (spec_of(at, job_id) for job_id in at.worker.done)
            assert read["kind"] == "read"
            assert {one["prompt"] for one in painted} == {"one red cube"}
            assert all(one["init"] for one in painted)
            key = {"Idempotency-Key": "k"}
            first = await client.images.create_variation(image=png(64, 64), extra_headers=key)
            assert first.data, "the key stands for the pictures, not for the reading before"

    asyncio.run(run())


def test_a_variation_needs_a_reader(tmp_path: Path) -> None:
    async def run() -> None:
        models = {name: one for name, one in MODELS.items() if one.does != "read"}
        async with house(tmp_path, worker=Worker(models=models)) as at:
            answer = await at.client.post("/v1/images/variations", files={"image": png(64, 64)})
            assert (answer.status_code, slug(answer)) == (400, "not-offered")

    asyncio.run(run())


@pytest.mark.parametrize(("begins", "asked", "kind"), [
    ("beside", {}, "bad-source"), ("beside", {"image": True, "strength": 0.5}, "bad-field"),
    ("inside", {"image": True}, "bad-source"),
])  # fmt: skip
def test_models_that_are_shown_a_picture_want_it(
    begins: Any, asked: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    async def run() -> None:
        models = {"painter": replace(MODELS["painter"], begins=begins)}
        async with house(tmp_path, worker=Worker(models=models)) as at:
            fields = {**asked, **({"image": b64(png(64, 64))} if asked.get("image") else {})}
            answer = await at.client.post("/v1/generate", json={"prompt": "a red cube", **fields})
            assert (answer.status_code, slug(answer)) == (422, kind)

    asyncio.run(run())
