"""Pictures from strangers: bounds from the header first, then decoded in a process of its own."""

from __future__ import annotations

import asyncio
import binascii
import json
import os
import re
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diptych.service.guards.picture_header import size_of, sniff
from diptych.service.guards.problem import Problem

MOST_BYTES = 20 << 20
MOST_PIXELS = 33_000_000
SHORTEST_SIDE = 8
NARROWEST = 32  # the long side is at most so many times the short one

_CHILD = "diptych.service.guards.picture_child"
_SOURCES = Path(__file__).parents[3]
_LONGEST_START = 20.0  # seconds
_LONGEST_HEAD = 1 << 20
_DATA = re.compile(r"data:image/(?:png|jpeg|webp|gif);base64,")
_READ = "PNG, JPEG, WebP and GIF are read."


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The first frame: `pixels` [height, width, 3] uint8 as bytes, upright, over white, without
    metadata. `recipe`: our JSON of how it was made, if the PNG carries one; unchecked. `alpha`:
    opacity [height, width] uint8, of a picture that has any transparency."""

    pixels: bytes = field(repr=False)  # nor in a log
    width: int
    height: int
    warnings: tuple[str, ...] = ()
    recipe: str | None = field(default=None, repr=False)
    alpha: bytes | None = field(default=None, repr=False)


def from_base64(text: str, field: str) -> bytes:
    """The bytes of strict base64, line breaks and one `data:image/...;base64,` before it left out.

    Raises Problem: 422 bad-base64, 413 too-large above 20 MiB.
    """
    prefix = _DATA.match(text)
    bare = text[prefix.end() if prefix else 0 :].replace("\r", "").replace("\n", "")
    if len(bare) // 4 * 3 > MOST_BYTES + 2:
        raise _too_large(field)
    try:
        if len(bare) % 4 == 0 and not bare.endswith("==="):  # which strict_mode lets through
            return binascii.a2b_base64(bare.encode("ascii"), strict_mode=True)
    except ValueError:  # also UnicodeEncodeError and binascii.Error
        pass
    detail = "Send base64 with padding; only line breaks and a data:image/...;base64, prefix may be"
    raise Problem("bad-base64", detail=f"{detail} beside it.", field=field)


def check_header(content: bytes, field: str) -> None:
    """Bounds by the header alone, before any library sees the file.

    Raises Problem: 415 not-a-picture; 413 too-large, too-many-pixels above 33 million; 422
    broken-picture without a size, bad-shape for a side under 8 or narrower than 1:32.
    """
    if len(content) > MOST_BYTES:
        raise _too_large(field)
    kind = sniff(content[:16])
    if kind is None:
        raise Problem("not-a-picture", detail=_READ, field=field)
    size = size_of(content, kind)
    if size is None:
        raise _broken(field)
    width, height = size
    if width * height > MOST_PIXELS:
        raise _too_many(field)
    short, long = sorted(size)
    if short < SHORTEST_SIDE or long > short * NARROWEST:
        detail = f"No side under {SHORTEST_SIDE} pixels, none over {NARROWEST} times the other."
        raise Problem("bad-shape", detail=detail, field=field)


class Decoder:
    """A few processes that decode; started at the first picture or by `start`, each replaced
    after 200 pictures or any error. One event loop; `close` ends them."""

    def __init__(
        self,
        *,
        processes: int = 2,
        pictures: int = 200,
        megabytes: int = 1024,
        cpu_seconds: int = 10,
        seconds: float = 30.0,
    ):
        self._pictures, self._seconds = pictures, seconds
        self._limits = (str(megabytes), str(cpu_seconds))
        self._free: asyncio.LifoQueue[_Child | None] = asyncio.LifoQueue()
        for _ in range(processes):
            self._free.put_nowait(None)

    async def start(self) -> None:
        """Start all processes, so that the first pictures need not wait (about 0.2 s each)."""
        slots = [self._free.get_nowait() for _ in range(self._free.qsize())]
        for child in slots:
            self._free.put_nowait(child or await _started(self._limits))

    async def decoded(self, content: bytes, field: str = "/image") -> Decoded:
        """Raises Problem as `check_header`; 422 broken-picture for what cannot be decoded whole,
        in 10 s of computing and in its memory; 503 busy where no process can be started."""
        check_header(content, field)
        child = await self._free.get()
        kept = None
        try:
            if child is None or child.process.returncode is not None:
                child = await _started(self._limits)
            async with asyncio.timeout(self._seconds):
                said, pixels = await _asked(child, content)
            child.done += 1
            if "error" not in said and child.done < self._pictures:
                kept = child
        except (OSError, EOFError, TimeoutError, ValueError, struct.error):
            said, pixels = {"error": "broken"}, b""  # it was ended, or talked nonsense
        finally:
            self._free.put_nowait(kept)
            if child and not kept:  # also where this task is canceled: its answer is half read
                await _end(child.process)
        if said.get("error"):
            raise _too_many(field) if said["error"] == "pixels" else _broken(field)
        return _result(said, pixels, field)

    async def close(self) -> None:
        slots = [await self._free.get() for _ in range(self._free.qsize())]
        for child in filter(None, slots):
            await _end(child.process)
        for _ in slots:
            self._free.put_nowait(None)


@dataclass(kw_only=True)
class _Child:
    process: asyncio.subprocess.Process
    done: int = 0


async def _started(limits: tuple[str, str]) -> _Child:
    """A new process, with nothing of our environment: it may hold secrets. Raises Problem 503."""
    environment = {"PYTHONPATH": str(_SOURCES), "OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", _CHILD, *limits),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
            cwd=os.sep,
            limit=1 << 20,
        )
    except OSError as error:
        raise _no_process() from error
    try:
        async with asyncio.timeout(_LONGEST_START):
            assert process.stdout is not None
            await process.stdout.readexactly(1)
    except BaseException as error:
        await _end(process)
        if isinstance(error, (EOFError, TimeoutError)):
            raise _no_process() from error
        raise
    return _Child(process=process)


async def _asked(child: _Child, content: bytes) -> tuple[dict[str, Any], bytes]:
    """One question and its answer. What it says is checked: a hostile file may have written it."""
    to, back = child.process.stdin, child.process.stdout
    assert to is not None and back is not None
    to.write(struct.pack(">Q", len(content)))
    to.write(content)
    await to.drain()
    (length,) = struct.unpack(">Q", await back.readexactly(8))
    if length > _LONGEST_HEAD:
        raise ValueError("a head that is too long")
    said = json.loads(await back.readexactly(length))
    width, height = int(said.get("width", 0)), int(said.get("height", 0))
    if not 0 <= width * height <= MOST_PIXELS:
        raise ValueError("more pixels than a picture may have")
    return said, await back.readexactly(width * height * (4 if said.get("alpha") else 3))


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill it and wait until its pipes are closed, so that no open file stays behind."""
    with suppress(OSError):
        if process.returncode is None:
            process.kill()
        if process.stdin is not None:
            process.stdin.close()
        await process.communicate()
        if process.stdin is not None:
            await process.stdin.wait_closed()


def _result(said: dict[str, Any], pixels: bytes, field: str) -> Decoded:
    warnings, recipe = tuple(map(str, said.get("warnings", ()))), said.get("recipe")
    if not pixels:
        raise _broken(field)
    width, height = int(said["width"]), int(said["height"])
    rgb, alpha = pixels[: width * height * 3], pixels[width * height * 3 :]
    return Decoded(
        pixels=rgb,
        alpha=alpha or None,
        width=width,
        height=height,
        warnings=warnings,
        recipe=None if recipe is None else str(recipe),
    )


def _no_process() -> Problem:
    detail = "No picture can be decoded now. Ask again later."
    return Problem("busy", detail=detail, headers={"Retry-After": "10"})


def _broken(field: str) -> Problem:
    detail = f"Send the whole picture, undamaged. {_READ}"
    return Problem("broken-picture", detail=detail, field=field)


def _too_many(field: str) -> Problem:
    detail = f"Make it smaller; up to {MOST_PIXELS // 1_000_000} million pixels are read."
    return Problem("too-many-pixels", detail=detail, field=field)


def _too_large(field: str) -> Problem:
    detail = f"Send at most {MOST_BYTES >> 20} MiB."
    return Problem("too-large", detail=detail, field=field)
