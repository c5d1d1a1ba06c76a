"""Models within a limit of memory: loaded when they are asked for, and never more than fit."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diptych.engine.engine import Engine
from diptych.foundation.errors import InvalidValue
from diptych.imaging.recipe import png_bytes
from diptych.pipelines.painter_front import TextToImage
from diptych.service.api.hub import Hub
from diptych.service.desk import LEASE, LONGEST, Desk, steady
from diptych.service.jobs import accepting, queries, store
from diptych.service.jobs.accepting import Wanted
from diptych.service.jobs.database import Database
from diptych.service.worker.pool import Pool, bytes_of, most_of
from tests.service.test_worker import House, house
from tests.tiny_models import tiny_dual_encoder, tiny_painter, tiny_reader
from tests.tiny_stable_diffusion import tiny_file


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "painter": ("paint", str(tiny_painter(folder / "painter"))),
        "diffusion": ("paint", str(tiny_file(folder / "tiny.safetensors"))),
        "reader": ("read", str(tiny_reader(folder / "reader"))),
        "dual": ("embed", str(tiny_dual_encoder(folder / "dual"))),
    }


@pytest.fixture(scope="module")
def sizes(places: dict[str, tuple[str, str]]) -> dict[str, int]:
    pool = Pool(Engine(), places)
    assert [error for _, error in pool.begin()] == [None] * 4
    assert list(pool.loaded) == list(places), "without a limit all stay"
    return pool.sizes


def begun(places: dict[str, tuple[str, str]], limit: int) -> Pool:
    pool = Pool(Engine(), places, limit)
    for name, error in pool.begin():
        assert error is None and name in pool.loaded
        assert pool.held <= limit or len(pool.loaded) == 1
    return pool


def test_bytes_are_those_of_the_networks_and_files_tell_as_many(places, sizes: dict[str, int]):
    for name, (_, place) in places.items():
        assert 0.9 * most_of(place) < sizes[name] < 1.1 * most_of(place), name
    networks = TextToImage.load(places["diffusion"][1]).networks
    own = sum(p.nbytes for m in networks.modules() for p in m.parameters())
    assert own <= sizes["diffusion"] == bytes_of(networks) < 1.1 * own


def test_the_one_used_longest_ago_goes_and_none_that_is_busy(places, sizes: dict[str, int]):
    pool = begun(places, sum(sizes.values()) - 1)
    assert list(pool.infos) == list(places) and "painter" not in pool.loaded
    assert "painter" not in pool.engine.painters, "its networks are forgotten"
    pool.used("diffusion")
    assert pool.has_room("painter")
    pool.load("painter")
    assert pool.lacks("reader") and not pool.lacks("diffusion"), "it was used after"
    assert not pool.lacks("nobody")
    alone = begun(places, 1)
    assert list(alone.loaded) == ["dual"] and not alone.has_room("painter", busy={"dual"})
    assert list(alone.loaded) == ["dual"], "nothing is removed for nothing"
    assert alone.has_room("painter") and not alone.loaded


def test_other_files_under_the_name_are_refused(places, tmp_path: Path):
    place = tiny_painter(tmp_path / "painter")
    pool = begun({"one": ("paint", str(place)), "two": places["dual"]}, 1)
    pool.has_room("one")
    weights = next(place.rglob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InvalidValue, match="not what they were"):
        pool.load("one")
    assert not pool.loaded and not pool.engine.painters


def test_a_longer_lease_is_bounded_and_no_silence(tmp_path: Path):
    async def nothing(*_: object) -> None:
        """What becomes of results is no matter here."""

    async def run() -> None:
        database = Database.open(tmp_path)
        desk = Desk(database, Hub(), print, print, nothing, print)
        spec = {"kind": "paint", "model": "painter"}
        wanted = [Wanted(kind="paint", spec=spec, cost=1.0)]
        accepted = await database.write(
            lambda c: accepting.accept(c, "someone", wanted, time.time())
        )
        row = (await desk.answer({"call": "claim", "busy": False}))["row"]
        renew = {"call": "renew", "told": [[row["id"], row["fence"], 0]]}
        for lease, long in ((0.0, LEASE), (100.0, 100.0), (1e9, LONGEST)):
            await desk.answer({**renew, "lease": lease})
            until = database.read(lambda c: queries.job_of(c, accepted.ids[0])).lease_until
            assert until - steady() == pytest.approx(long, abs=5)
            assert desk.heard_at - steady() == pytest.approx(long - LEASE, abs=5)
        await desk.answer(renew)
        assert desk.heard_at <= steady(), "it speaks again"
        database.close()

    asyncio.run(run())


# --- over the store, with an engine in its process -----------------------------------------------


def asked(model: str, seed: int, steps: int = 3) -> dict[str, Any]:
    side = 32 if model == "painter" else 16
    return {
        "kind": "paint", "model": model, "prompt": "a red star", "negative_prompt": "",
        "width": side, "height": side, "steps": steps, "guidance": 2.0, "seed": seed,
    }  # fmt: skip


def alone(places: dict[str, tuple[str, str]], spec: dict[str, Any]) -> bytes:
    front = TextToImage.load(places[spec["model"]][1])
    picture = front(
        spec["prompt"], seed=spec["seed"], steps=spec["steps"], guidance=spec["guidance"],
        width=spec["width"], height=spec["height"],
    )  # fmt: skip
    assert isinstance(picture, Image.Image)
    return png_bytes(picture, picture.info["recipe"])


def two(places: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    return {name: places[name] for name in ("painter", "diffusion")}


async def told_to_be_whole(at: House, ids: list[str], specs: list[dict[str, Any]], places) -> None:
    for job_id, spec in zip(ids, specs, strict=True):
        assert at.row(job_id).status == "complete", at.row(job_id).detail
        assert at.picture(job_id) == alone(places, spec), spec


def test_two_models_and_room_for_one(places, sizes: dict[str, int], tmp_path: Path):
    specs = [asked(("painter", "diffusion")[n % 2], n) for n in range(6)]

    async def run() -> None:
        limit = max(sizes["painter"], sizes["diffusion"])
        async with house(tmp_path, models=two(places), memory=limit) as at:
            ids = await at.ask(*specs)
            await at.until(ids)
            await told_to_be_whole(at, ids, specs, places)
            held = [one["model_bytes"] for one in at.told]
            assert set(held) == {sizes["painter"], sizes["diffusion"]}, "one, and then the other"
            assert [at.row(one).attempt for one in ids] == [1] * 6
            assert set(at.face.models) == {"painter", "diffusion"}, "all are offered"

    asyncio.run(run())


def test_after_a_kill_while_one_waits_for_its_model(places, tmp_path: Path):
    specs = [asked("diffusion", 1, 60), asked("painter", 2), asked("diffusion", 3)]

    async def run() -> None:
        async with house(tmp_path, models=two(places), memory=1, spool_every=0.2) as at:
            ids = await at.ask(*specs)
            for _ in range(3000):
                if at.row(ids[0]).checkpoint is not None:
                    break
                await asyncio.sleep(0.02)
            seen = [at.row(one).status for one in ids]
            assert seen == ["running", "running", "queued"], "nothing overtakes the one that waits"
            process = at.supervisor.process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            await at.until(ids)
            await told_to_be_whole(at, ids, specs, places)

    asyncio.run(run())


def test_one_that_waits_is_given_up_or_put_back(places, tmp_path: Path):
    specs = [asked("diffusion", 1, 900), asked("painter", 2), asked("painter", 3)]

    async def run() -> None:
        settings = {"models": two(places), "memory": 1, "drain_for": 0.2}
        async with house(tmp_path, **settings) as at:
            ids = await at.ask(*specs)
            await at.until([ids[1]], "running")
            await at.database.write(lambda c: store.cancel(c, ids[1], time.time()))
            at.supervisor.cancel(ids[1])
            await at.until([ids[1]])
            assert at.row(ids[1]).status == "canceled" and at.row(ids[0]).status == "running"
            await at.until([ids[2]], "running")  # the next one that waits
        async with house(tmp_path, **settings) as at:
            row = at.row(ids[2])
            assert row.attempt in (0, 1) and row.crashes == 0
            await at.database.write(lambda c: store.cancel(c, ids[0], time.time()))
            at.supervisor.cancel(ids[0])
            await at.until(ids)
            await told_to_be_whole(at, ids[2:], specs[2:], places)

    asyncio.run(run())
