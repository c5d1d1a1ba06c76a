"""POST /v1/verify, and pictures that are served with a signed statement."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

from PIL import Image

from diptych.imaging.recipe import PictureRecipe, png_bytes
from diptych.service import artifacts
from diptych.service.api.pictures import painted
from diptych.service.api.shapes import VerifyShape
from diptych.service.jobs.database import Database
from tests.service.api.house import b64, house, png, slug

RECIPE = PictureRecipe(
    prompt="a cat", negative_prompt="", seed=3, steps=4, guidance=1.0, shift=None,
    width=256, height=256, model="m", model_hash="0123456789", version="1",
)  # fmt: skip
OURS = png_bytes(Image.linear_gradient("L").convert("RGB"), RECIPE)


def test_what_is_ours_is_told_and_nothing_kept(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            sent = await at.client.post("/v1/verify", json={"image": b64(OURS)})
            told = VerifyShape.model_validate(sent.json())
            assert told.ours and told.watermark == "found" and told.same_recipe
            form = await at.client.post("/v1/verify", files={"image": ("a.png", OURS)})
            assert form.json() == sent.json()
            other = (await at.client.post("/v1/verify", json={"image": b64(png(64, 64))})).json()
            assert (other["ours"], other["watermark"], other["recipe"]) == (
                False, "too-small", "none",
            )  # fmt: skip
            assert at.number() == 0 and not at.state.artifacts.files

    asyncio.run(run())


def test_its_picture_is_guarded_as_every_other(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            for body, expected in (
                ({}, "bad-source"), ({"image": "!"}, "bad-base64"),
                ({"image": b64(b"nothing")}, "not-a-picture"),
                ({"image": b64(OURS[:300])}, "broken-picture"),
            ):  # fmt: skip
                assert slug(await at.client.post("/v1/verify", json=body)) == expected

    asyncio.run(run())


def test_a_picture_is_signed_once_and_erased_with_its_statement(tmp_path: Path) -> None:
    signatures: list[bytes] = []

    def sign(core: bytes) -> bytes:
        signatures.append(core)
        return core + bytes([len(signatures)])

    database = Database.open(tmp_path)
    try:
        root = tmp_path / "artifacts"
        sha = artifacts.put(root, OURS, "image/png")
        first = artifacts.published(root, sha, sign)
        assert artifacts.published(root, sha, sign) == first == OURS + b"\x01"
        assert signatures == [OURS] and artifacts.read(root, sha) == OURS
        artifacts.remove(database, root, [sha], wall=0.0)
        assert artifacts.published(root, sha, sign) is None
        assert not [path for path in root.rglob("*") if path.is_file() and path.name != ".lock"]
    finally:
        database.close()


def test_by_default_it_is_served_signed_and_by_wish_as_it_is_named(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            object.__setattr__(at.state, "published", lambda sha: b"signed")
            told = await at.ended((await at.generate())["job_id"])
            core = await at.client.get(told["image_url"])
            assert core.content != b"signed"  # it holds no recipe: nobody here painted it
            sha = told["image_url"].partition("/v1/pictures/")[2].partition("?")[0]
            at.state.artifacts.files[sha] = OURS
            assert (await at.client.get(told["image_url"])).content == b"signed"
            assert (await at.client.get(told["image_url"] + "&core=1")).content == OURS

    asyncio.run(run())


def test_only_painted_pictures_are_signed() -> None:
    picture = Image.open(io.BytesIO(OURS))
    content = io.BytesIO()
    Image.frombytes("RGB", picture.size, picture.tobytes()).save(content, format="png")
    assert painted(OURS) and not painted(content.getvalue())
