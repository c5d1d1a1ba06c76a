"""The engine's process: jobs in the store become pictures and words, whatever becomes of it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from diptych.imaging.recipe import png_bytes
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.reader_front import ImageToText
from diptych.service import artifacts
from diptych.service.api import windows
from diptych.service.desk import Desk, steady
from diptych.service.face import Bells, Face
from diptych.service.figures import Figures
from diptych.service.jobs import accepting, queries, store, tidying
from diptych.service.jobs.accepting import Wanted
from diptych.service.jobs.database import Database
from diptych.service.jobs.store import Stored
from diptych.service.pace import Pace
from diptych.service.supervisor import EngineSettings, Supervisor
from tests.tiny_flow import tiny_flow_file
from tests.tiny_t5 import spiece_folder

MODELS = {"scenes-t2i": ("paint", "scenes-t2i"), "scenes-i2t": ("read", "scenes-i2t")}


@dataclass
class House:
    """A store with an engine at work, and no HTTP."""

    data: Path
    database: Database
    supervisor: Supervisor
    face: Face
    told: list[Mapping[str, Any]]  # what the engine told of itself

    async def ask(self, *specs: dict[str, Any], inputs: Sequence[Stored] = ()) -> list[str]:
        wanted = [Wanted(kind=s["kind"], spec=s, cost=1.0, inputs=inputs) for s in specs]
        found = await self.database.write(
            lambda c: accepting.accept(c, "someone", wanted, time.time())
        )
        self.supervisor.ring()
        return list(found.ids)

    def row(self, job_id: str) -> Any:
        return self.database.read(lambda c: queries.job_of(c, job_id))

    async def until(self, ids: Sequence[str], status: str = "", seconds: float = 60.0) -> None:
        """Until all have ended, or one has come to a status."""
        for _ in range(int(seconds / 0.02)):
            seen = [self.row(one).status for one in ids]
            if status in seen if status else all(s in store.machine.TERMINAL for s in seen):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"still {seen}")

    def picture(self, job_id: str) -> bytes:
        (made,) = [
            one
            for one in self.database.read(lambda c: queries.artifacts_of(c, job_id))
            if one.role == "picture"
        ]
        found = artifacts.read(self.data / "artifacts", made.sha256)
        assert found is not None
        return found


@asynccontextmanager
async def house(data: Path, **settings: Any) -> AsyncIterator[House]:
    database = Database.open(data)
    face = Face(data / "models.json", Pace())
    figures = Figures()
    hub = Bells(lambda: face.supervisor, figures)

    async def learn(job_id: str, result: object) -> None:
        """How long things take is no matter here."""

    told: list[Mapping[str, Any]] = []
    desk = Desk(database, hub, face.hello, face.lacks, learn, told.append)

    async def died() -> None:
        await database.write(lambda c: tidying.reap(c, steady(), time.time(), dead=True))

    engine = EngineSettings(data=data, **{"models": MODELS, **settings})
    supervisor = Supervisor(engine, desk, died, lambda: False)
    face.supervisor = supervisor
    running = asyncio.create_task(supervisor.run())
    try:
        yield House(data, database, supervisor, face, told)
    finally:
        await supervisor.stop()
        with suppress(asyncio.CancelledError):
            await running
        database.close()


def paint(prompt: str, seed: int, steps: int = 6, **more: Any) -> dict[str, Any]:
    return {
        "kind": "paint", "model": "scenes-t2i", "prompt": prompt, "negative_prompt": "",
        "width": 64, "height": 64, "steps": steps, "guidance": 2.0, "seed": seed, **more,
    }  # fmt: skip


def alone(spec: dict[str, Any]) -> bytes:
    """The file that the command line would write."""
    picture = TextToImage.load("scenes-t2i")(
        spec["prompt"], seed=spec["seed"], steps=spec["steps"], guidance=spec["guidance"],
        solver=spec.get("solver"),
    )  # fmt: skip
    assert isinstance(picture, Image.Image)
    return png_bytes(picture, picture.info["recipe"])


def test_pictures_together_are_what_each_is_alone_and_are_read_back(tmp_path: Path):
    specs = [
        paint("a red star", 1), paint("two blue moons", 2, 9), paint("a green circle", 3, 4),
        paint("a red star", 4, 5, solver="heun"),
    ]  # fmt: skip

    async def run() -> None:
        async with house(tmp_path) as one:
            ids = await one.ask(*specs)
            await one.until(ids)
            for job_id, spec in zip(ids, specs, strict=True):
                assert one.row(job_id).status == "complete", one.row(job_id).detail
                assert one.picture(job_id) == alone(spec)
            sha = artifacts.put(tmp_path / "artifacts", one.picture(ids[0]), "image/png")
            shown = Stored(sha, "image/png", 1, "input")
            asked = [
                {"kind": "read", "model": "scenes-i2t", "picture": sha, "task": "caption",
                 "question": None, "most": 64},
                {"kind": "read", "model": "scenes-i2t", "picture": sha, "task": None,
                 "question": "what color is the star", "most": 64},
            ]  # fmt: skip
            read = await one.ask(*asked, inputs=[shown])
            await one.until(read)
            picture = Image.open(BytesIO(one.picture(ids[0])))
            reader = ImageToText.load("scenes-i2t")
            said = [one.row(job_id).result for job_id in read]
            assert said[0]["text"] == reader.caption(picture).text
            wanted = reader.answer(picture, "what color is the star?")
            assert said[1]["text"] == wanted.text
            assert said[1]["confidence"] == wanted.confidence and said[1]["score"] == wanted.score
            assert one.face.models["scenes-t2i"].size == (64, 64)

    asyncio.run(run())


def test_after_a_kill_a_picture_goes_on_to_the_same_bytes(tmp_path: Path):
    spec = paint("a red star", 7, 90)

    async def run() -> None:
        # What a kill in the midst of writing leaves.
        (tmp_path / "spool").mkdir()
        (tmp_path / "spool" / ".half.safetensors.1.part").write_bytes(b"half")
        async with house(tmp_path, spool_every=0.2) as one:
            (job_id,) = await one.ask(spec)
            await one.until([job_id], "running")
            while one.row(job_id).checkpoint is None:
                assert one.row(job_id).status == "running"
                await asyncio.sleep(0.02)
            process = one.supervisor.process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            await one.until([job_id])
            row = one.row(job_id)
            assert row.status == "complete" and row.attempt == 2 and row.crashes == 1
            assert row.result["resumed_at"] > 0
            assert one.picture(job_id) == alone(spec)
            for _ in range(100):  # the worker tidies when its word was taken
                if not list((tmp_path / "spool").iterdir()):
                    break
                await asyncio.sleep(0.02)
            assert not list((tmp_path / "spool").iterdir())
            events = one.database.read(lambda c: queries.events_after(c, job_id, 0))
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            kinds = [event.kind for event in events]
            assert kinds[0] == "queued" and kinds[-1] == "complete" and "retried" in kinds

    asyncio.run(run())


def test_a_cancel_is_obeyed_at_the_next_step(tmp_path: Path):
    async def run() -> None:
        async with house(tmp_path) as one:
            long, short = await one.ask(paint("a red star", 1, 200), paint("a red star", 2, 3))
            await one.until([long], "running")
            await one.database.write(lambda c: store.cancel(c, long, time.time()))
            one.supervisor.cancel(long)
            await one.until([long, short], seconds=20)
            assert one.row(long).status == "canceled"
            assert one.row(short).status == "complete"
            assert one.row(long).step < 200

    asyncio.run(run())


def test_what_cannot_be_done_fails_by_itself(tmp_path: Path):
    async def run() -> None:
        async with house(tmp_path) as one:
            ids = await one.ask(
                paint("a zebra", 1), paint("a red star", 2, width=60), paint("a red star", 3, 3),
                {"kind": "dance", "model": "scenes-t2i"},
            )  # fmt: skip
            await one.until(ids)
            rows = [one.row(job_id) for job_id in ids]
            assert [row.status for row in rows] == ["failed", "failed", "complete", "failed"]
            assert "zebra" in rows[0].detail and "60 x 64" in rows[1].detail
            assert all(str(tmp_path) not in row.detail for row in rows)

    asyncio.run(run())


def test_an_engine_that_is_asked_to_go_puts_back_what_it_has(tmp_path: Path):
    spec = paint("a red star", 7, 90)

    async def run() -> None:
        async with house(tmp_path, drain_for=0.2) as one:
            (job_id,) = await one.ask(spec)
            await one.until([job_id], "running")
            while one.row(job_id).step == 0:
                await asyncio.sleep(0.02)
        async with house(tmp_path) as one:
            row = one.row(job_id)
            assert row.status == "queued" and row.attempt == 0 and row.checkpoint["step"] > 0
            await one.until([job_id])
            assert one.row(job_id).result["resumed_at"] == row.checkpoint["step"]
            assert one.row(job_id).crashes == 0
            assert one.picture(job_id) == alone(spec)

    asyncio.run(run())


def test_of_a_prompt_that_is_too_long_the_beginning_is_painted(tmp_path: Path):
    """And the web half knows by what the engine has told and left."""
    spiece_folder(tmp_path / "tokenizer")
    place = tiny_flow_file(tmp_path / "flux.safetensors", "flux-schnell")
    long = "a photo of a cat " * 80

    async def run() -> None:
        async with house(tmp_path, models={"flux": ("paint", str(place))}) as one:
            while not one.face.models:
                await asyncio.sleep(0.05)
            info = one.face.models["flux"]
            assert (info.window, info.counts) == (255, "pieces")
            assert windows.is_over(tmp_path, info, long)
            assert not windows.is_over(tmp_path, info, "a cat " * 43)
            sized = {"model": "flux", "width": 32, "height": 16, "guidance": info.guidance}
            specs = [
                paint(text, 1, 2, **sized, **more)
                for text, more in (
                    (long, {"cut": ["prompt"]}), (long + "a dog", {"cut": ["prompt"]}), (long, {}),
                    ("a cat", {}),
                )
            ]  # fmt: skip
            ids = await one.ask(*specs)
            await one.until(ids)
            rows = [one.row(job_id) for job_id in ids]
            assert [row.status for row in rows] == ["complete", "complete", "failed", "complete"]
            assert "longer" in rows[2].detail, "never in silence"
            first, same, other = (
                Image.open(BytesIO(one.picture(ids[n]))).tobytes() for n in (0, 1, 3)
            )
            assert first == same != other

    asyncio.run(run())
