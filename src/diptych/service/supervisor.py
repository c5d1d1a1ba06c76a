"""The engine's process: begun, watched, begun again. The web process never imports torch."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diptych.foundation.errors import NotWritten
from diptych.service.desk import Desk, steady
from diptych.service.wire import BadFrame, Message, packed, read_frame

BACKOFF = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
BROKEN_AFTER = 5  # deaths within
BROKEN_WITHIN = 600.0  # seconds
SPARE = 5.0  # seconds that an engine has for its last words
LOADING_FOR = 600.0
HUNG_AFTER = 120.0  # seconds without a word, while it has work


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """`models`: name -> what it does (paint, read, embed) and where it is. `spool_every` seconds a
    picture under way is written down; `drain_for` seconds an engine may finish what it has. With
    `marks` pictures get the invisible mark; `gate`: module:function that refuses some, or none.
    `memory`: bytes of the models that are loaded at once, 0 for all of them."""

    data: Path
    models: Mapping[str, tuple[str, str]]
    threads: int = 1
    most: int = 8
    exact: bool = True
    spool_every: float = 5.0
    drain_for: float = 25.0
    marks: bool = True
    gate: str = ""
    memory: int = 0


@dataclass
class Supervisor:
    """Runs one engine. `died` is called when one has: all it had goes back to the queue. `works`
    tells whether it has anything to do, so that silence means that it hangs."""

    settings: EngineSettings
    desk: Desk
    died: Callable[[], Any]
    works: Callable[[], bool]
    state: str = "starting"
    process: asyncio.subprocess.Process | None = None
    deaths: deque[float] = field(default_factory=deque)
    stopping: bool = False
    _writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Until `stop`: begins an engine, and another when it ends."""
        with tempfile.TemporaryDirectory(prefix="diptych-") as folder:
            path = Path(folder) / "engine"  # short: a socket's path has 108 bytes
            server = await asyncio.start_unix_server(self._serve, str(path))
            path.chmod(0o600)
            try:
                while not self.stopping:
                    await self._once(path)
            finally:
                server.close()

    async def _once(self, path: Path) -> None:
        self.state = "starting"
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "diptych.service.worker", self._argument(path),
            start_new_session=True, stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        self.desk.heard_at = steady()
        watching = asyncio.create_task(self._watch(self.process))
        await self.process.wait()
        watching.cancel()
        self._writer = None
        await self.died()
        if self.stopping:
            return
        self.deaths.append(time.monotonic())
        while self.deaths and self.deaths[0] < time.monotonic() - BROKEN_WITHIN:
            self.deaths.popleft()
        self.state = "broken" if len(self.deaths) >= BROKEN_AFTER else "restarting"
        await asyncio.sleep(BACKOFF[min(len(self.deaths), len(BACKOFF)) - 1])

    def _argument(self, path: Path) -> str:
        settings = self.settings
        return json.dumps({
            "parent": os.getpid(), "socket": str(path), "data": str(settings.data),
            "models": {name: list(one) for name, one in settings.models.items()},
            "threads": settings.threads, "most": settings.most, "exact": settings.exact,
            "spool_every": settings.spool_every, "drain_for": settings.drain_for,
            "marks": settings.marks, "gate": settings.gate,
            "memory": settings.memory,
        })  # fmt: skip

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """An engine that is silent though it has work hangs: it is killed."""
        while True:
            await asyncio.sleep(1.0)
            loading = self.state != "ready"
            silent = steady() - self.desk.heard_at
            if silent > (LOADING_FOR if loading else HUNG_AFTER) and (loading or self.works()):
                _signal(process, signal.SIGKILL)

    # --- the socket ---------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        try:
            with contextlib.suppress(BadFrame, ConnectionError):
                while (said := await read_frame(reader)) is not None:
                    answer = await self._answer(said)
                    if said["call"] == "hello":
                        self.state = "ready"
                    if "number" in said:
                        writer.write(packed({"number": said["number"], "answer": answer}))
                        await writer.drain()
        finally:
            writer.close()

    async def _answer(self, said: Message) -> Any:
        """A full disk may pass: it is no death of the engine, and nobody's fault."""
        while True:
            try:
                return await self.desk.answer(said)
            except NotWritten:
                await asyncio.sleep(1.0)

    def ring(self) -> None:
        """There is work, or less of it."""
        self._say({"bell": "work"})

    def cancel(self, job_id: str) -> None:
        """A running job is given up."""
        self._say({"bell": "cancel", "id": job_id})

    def _say(self, message: Message) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(packed(message))

    async def stop(self) -> None:
        """The engine finishes what fits into the time and goes; then it is killed."""
        self.stopping = True
        process = self.process
        if process is None or process.returncode is not None:
            return
        if self._writer is None:
            _signal(process, signal.SIGKILL)
        self._say({"bell": "drain"})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), self.settings.drain_for + SPARE)
        if process.returncode is None:
            _signal(process, signal.SIGKILL)
            await process.wait()


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
