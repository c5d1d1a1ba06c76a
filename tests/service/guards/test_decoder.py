"""The processes that decode: how long they live, what they may, and that answers do not mix."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image

from diptych.service.guards import pictures
from diptych.service.guards.pictures import Decoded, Decoder
from diptych.service.guards.problem import Problem
from tests.service.guards.hostile import (
    PNG,
    chunk,
    flat_png,
    good,
    picture,
    saved,
)


def test_18_the_process_counts_again_and_memory_has_a_bound():
    """If a header parser of ours were fooled, the process would still refuse, in little memory."""
    bomb = flat_png(6000, 6000)
    decoder = Decoder(processes=1)

    async def run() -> Problem:
        child = await pictures._started(("200", "10"))  # too few to decode it: "memory"
        try:
            said, content = await pictures._asked(child, bomb)
            assert (said, content) == ({"error": "pixels"}, b"")
        finally:
            await pictures._end(child.process)
        with pytest.raises(Problem) as caught:
            await decoder.decoded(bomb)
        return caught.value

    assert asyncio.run(run()).slug == "too-many-pixels"


def test_a_process_is_used_again_until_its_number_of_pictures():
    async def run() -> list[int]:
        decoder = Decoder(processes=1, pictures=2)
        await decoder.start()
        ids = []
        for _ in range(4):
            child = decoder._free.get_nowait()
            decoder._free.put_nowait(child)
            ids.append(child.process.pid if child else 0)
            await decoder.decoded(saved(picture()))
        await decoder.close()
        return ids

    first, second, third, fourth = asyncio.run(run())
    assert first == second and third == 0 and fourth not in (0, first)


def test_many_at_once_each_get_their_own_also_after_some_went_away():
    colors = [(n * 20, 255 - n * 20, n) for n in range(12)]

    async def run() -> list[bytes | None]:
        decoder = Decoder(processes=2)

        async def one(color: tuple[int, int, int]) -> bytes:
            result = await decoder.decoded(saved(Image.new("RGB", (200, 100), color)))
            return result.pixels[:3]

        tasks = [asyncio.create_task(one(color)) for color in colors]
        for gone in (0, 5):
            await asyncio.sleep(0.2)
            tasks[gone].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert decoder._free.qsize() == 2
        await decoder.close()
        return [None if isinstance(d, BaseException) else d for d in done]

    pixels = asyncio.run(run())
    assert sum(p is None for p in pixels) <= 2
    assert all(p in (None, bytes(c)) for p, c in zip(pixels, colors, strict=True))


def test_who_leaves_in_the_middle_leaves_no_half_answer_to_the_next():
    large = saved(Image.effect_noise((1600, 1600), 90).convert("RGB"), "JPEG")

    async def run() -> Decoded:
        decoder = Decoder(processes=1)
        await decoder.start()
        for pause in (0.0, 0.01, 0.03, 0.06):
            task = asyncio.create_task(decoder.decoded(large))
            await asyncio.sleep(pause)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        result = await decoder.decoded(saved(picture()))
        await decoder.close()
        return result

    assert asyncio.run(run()).pixels == picture().tobytes()


def test_a_process_that_died_meanwhile_costs_nobody_a_picture():
    async def run() -> Decoded:
        decoder = Decoder(processes=1)
        await decoder.start()
        child = decoder._free.get_nowait()
        assert child is not None
        os.kill(child.process.pid, signal.SIGKILL)
        await child.process.wait()
        decoder._free.put_nowait(child)
        result = await decoder.decoded(saved(picture()))
        await decoder.close()
        return result

    assert asyncio.run(run()).pixels == picture().tobytes()


def test_a_picture_that_takes_too_long_is_given_up_and_the_process_with_it():
    large = saved(Image.effect_noise((1600, 1600), 90).convert("RGB"), "JPEG", progressive=True)

    async def run() -> None:
        decoder = Decoder(processes=1, seconds=0.02)
        await decoder.start()
        child = decoder._free.get_nowait()
        decoder._free.put_nowait(child)
        assert child is not None
        with pytest.raises(Problem, match="broken-picture"):
            await decoder.decoded(large)
        assert await child.process.wait() == -signal.SIGKILL
        await decoder.close()

    begun = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - begun < 3


def test_the_largest_picture_fits_into_its_memory_in_the_dearest_form():
    """33 million pixels with alpha, turned: four pictures of them at once."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    rows = zlib.compress((b"\0" + b"\x09\x08\x07\x80" * 6000) * 5500, 1)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 6000, 5500, 8, 6, 0, 0, 0))
    result = good(PNG + head + turned + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    assert (result.width, result.height) == (5500, 6000)


def test_the_process_holds_no_secret_and_opens_no_file(tmp_path: Path):
    """Its environment, its limits and its network, as the system tells them."""

    async def run() -> tuple[bytes, str]:
        decoder = Decoder(processes=1)
        await decoder.start()
        child = decoder._free.get_nowait()
        decoder._free.put_nowait(child)
        assert child is not None
        await decoder.decoded(saved(picture()))
        about = Path(f"/proc/{child.process.pid}")
        told = (about / "environ").read_bytes(), (about / "limits").read_text()
        await decoder.close()
        return told

    os.environ["DIPTYCH_TEST_SECRET"] = "secret"
    try:
        environment, limits = asyncio.run(run())
    finally:
        del os.environ["DIPTYCH_TEST_SECRET"]
    assert b"secret" not in environment
    rows = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()[1:]}
    assert rows["Max open files"] == rows["Max file size"] == rows["Max processes"] == "0"
    assert 10 <= int(rows["Max cpu time"]) <= 12  # seconds, what it used so far included
    assert rows["Max address space"] == str(1 << 30)
