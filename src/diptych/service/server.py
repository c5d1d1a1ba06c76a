"""The whole server in one process, and its engine in another: begun, watched, ended."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy import Connection

from diptych.foundation.errors import DiptychError, InvalidValue
from diptych.foundation.files import write_whole
from diptych.imaging.credentials import Certificate, signed
from diptych.service import artifacts, keyring, traces
from diptych.service.api.app import make_app
from diptych.service.api.reads import job_of, key_of
from diptych.service.api.settings import Settings
from diptych.service.api.state import State
from diptych.service.desk import Desk, steady
from diptych.service.face import Bells, Face
from diptych.service.figures import Figures
from diptych.service.guards.header_deadline import with_deadline
from diptych.service.guards.keys import Key
from diptych.service.guards.moderation import WordList
from diptych.service.guards.pictures import Decoder
from diptych.service.guards.rates import Rates
from diptych.service.jobs import queries, tidying
from diptych.service.jobs.database import Database
from diptych.service.jobs.store import Moved, Stored
from diptych.service.pace import Pace
from diptych.service.pace import keep as keep_pace
from diptych.service.supervisor import EngineSettings, Supervisor

TIDY_EVERY = 1.0
SWEEP_EVERY = 600.0
HEADER_WITHIN = 10.0


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """`gate`: prompts that are refused. `keep_days`: after so many days what is not starred is
    erased, 0 for never. `certificate`: what pictures are signed with, None: they are not."""

    settings: Settings
    engine: EngineSettings
    gate: WordList = field(default_factory=WordList)
    keep_days: float = 0.0
    certificate: Certificate | None = None


@dataclass(frozen=True)
class Files:
    """The artifacts of a folder."""

    root: Path

    def put(self, content: bytes, media: str, role: str) -> Stored:
        """Write and sync. Raises NotWritten."""
        return Stored(artifacts.put(self.root, content, media), media, len(content), role)

    def get(self, sha256: str) -> bytes | None:
        """The bytes, or None where they are missing or altered."""
        return artifacts.read(self.root, sha256)


def serve(settings: ServerSettings) -> None:
    """Until SIGINT or SIGTERM. Raises InvalidValue for a folder that another server has, or an
    address that cannot be taken."""
    traces.begin("diptych")
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=_loop()) as runner:
        runner.run(_Server(settings).run())


def _loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it exists."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


class _Server:
    def __init__(self, settings: ServerSettings):
        self.settings, self.web = settings, settings.settings
        self.database = Database.open(self.web.data)
        self.files = Files(self.web.data / "artifacts")
        self.pace = self.database.read(Pace.load)
        self.face = Face(self.web.data / "models.json", self.pace)
        self.figures = Figures()
        self.hub = Bells(lambda: self.face.supervisor, self.figures)
        desk = Desk(
            self.database, self.hub, self.face.hello, self.face.lacks, self._learn,
            self.figures.engine,
        )  # fmt: skip
        self.supervisor = Supervisor(settings.engine, desk, self._died, self._works)
        self.face.supervisor = self.supervisor
        self.face.begin()
        self.swept = 0.0
        self.busy = 0.0

    async def run(self) -> None:
        """All of it."""
        listening = None
        try:
            if self.web.needs_keys and not self.database.read(keyring.any_left):
                raise InvalidValue(
                    f"At {self.web.host} others can ask this server, and it has no key.",
                    do=f"Make one: diptych keys add NAME --admin --data {self.web.data}",
                )
            listening = _listening(self.web.host, self.web.port)
            await self.database.write(lambda c: tidying.begin_again(c, time.time()))
            await self._serve(listening)
        finally:
            if listening is not None:
                listening.close()
            self.database.close()

    async def _serve(self, listening: Any) -> None:
        decoder = Decoder()
        await decoder.start()
        port = listening.getsockname()[1]
        web = replace(self.web, port=port)
        state = State(
            settings=web, database=self.database, artifacts=self.files, engine=self.face,
            hub=self.hub, decoder=decoder, keys=self._key, secret=_secret(web.data),
            rates=Rates(per_user=web.per_user, per_address=web.per_address),
            gate=self.settings.gate, figures=self.figures, published=self._published(),
        )  # fmt: skip
        config = uvicorn.Config(
            make_app(state), http=with_deadline(HEADER_WITHIN), log_level="warning",
            access_log=False, server_header=False, timeout_graceful_shutdown=3,
        )  # fmt: skip
        server = uvicorn.Server(config)
        engine = asyncio.create_task(self.supervisor.run())
        tidy = asyncio.create_task(self._tidy())
        shown = f"[{web.host}]" if ":" in web.host else web.host
        print(f"Diptych is at http://{shown}:{port}  (Ctrl-C ends it)", flush=True)
        try:
            await server.serve(sockets=[listening])
        finally:
            tidy.cancel()
            await self.supervisor.stop()
            with contextlib.suppress(asyncio.CancelledError):
                await engine
            await decoder.close()

    # --- what happens by itself ---------------------------------------------------------------

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_EVERY)
            with contextlib.suppress(DiptychError):  # a full disk: once more in a second
                await self._tidied()

    async def _tidied(self) -> None:
        wall, now = time.time(), steady()
        _, self.busy = self.database.read(queries.load)

        def due(connection: Connection) -> tuple[list[Moved], list[str]]:
            moved = tidying.reap(connection, now, wall) + tidying.expire(connection, now, wall)
            unneeded = tidying.erase_due(connection, wall)
            if self.settings.keep_days:
                keep = self.settings.keep_days * 86_400
                unneeded += tidying.retire(connection, wall, keep)
            return moved, unneeded

        moved, unneeded = await self.database.write(due)
        for one in moved:
            self.hub.publish(one)
        root = self.files.root
        if unneeded:
            await asyncio.to_thread(artifacts.remove, self.database, root, unneeded, wall=wall)
        if now - self.swept > SWEEP_EVERY:
            self.swept = now
            await self.database.write(lambda c: tidying.forget_keys(c, wall))
            await asyncio.to_thread(artifacts.sweep, self.database, root, wall)

    async def _died(self) -> None:
        """The engine is gone: whatever it had goes back, unless it did this more than once."""
        now, wall, blame = steady(), time.time(), not self.supervisor.stopping
        gone = await self.database.write(
            lambda c: (
                tidying.reap(c, now, wall, dead=True) if blame else tidying.begin_again(c, wall)
            )
        )
        for one in gone:
            self.hub.publish(one)

    def _works(self) -> bool:
        return self.busy > 0

    async def _learn(self, job_id: str, result: Mapping[str, Any]) -> None:
        row = self.database.read(lambda c: job_of(c, job_id))
        if row is None:
            return
        spec, engine, took = row.spec, float(result["engine_seconds"]), row.ended - row.created
        size = f"{spec['width']}x{spec['height']}" if row.kind == "paint" else ""
        self.figures.done(row.kind, spec["model"], size, took, engine)
        self.figures.predicted(*self.pace.ended(row.eta, took))
        key, _ = self.pace.learn(spec, engine)
        with contextlib.suppress(DiptychError):  # a full disk: it is learnt again
            await self.database.write(lambda c: keep_pace(c, self.pace, key))

    def _published(self) -> Callable[[str], bytes | None] | None:
        certificate = self.settings.certificate
        if certificate is None:
            return None
        sign = partial(signed, certificate=certificate)
        return lambda sha256: artifacts.published(self.files.root, sha256, sign)

    def _key(self, sha256: str) -> Key | None:
        return self.database.read(lambda c: key_of(c, sha256))


def _listening(host: str, port: int) -> Any:
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except (OSError, OverflowError) as error:
        made.close()
        raise InvalidValue(
            f"Cannot listen at {host} port {port}: {getattr(error, 'strerror', None) or error}.",
            do="Choose another: --port 0 takes a free one.",
        ) from error
    made.listen(2048)
    made.set_inheritable(False)
    return made


def _secret(data: Path) -> bytes:
    """What cookies and addresses of pictures are signed with; made at the first start."""
    path = data / "secret"
    if not path.exists():
        write_whole(path, secrets.token_bytes(32))
        path.chmod(0o600)
    return path.read_bytes()
