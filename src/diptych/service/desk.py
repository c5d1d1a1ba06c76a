"""The server's end of the socket: what the engine asks of the store, written and then answered."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from diptych.service.api.hub import Hub, Live
from diptych.service.jobs import store
from diptych.service.jobs.store import Moved, Progress, Stored, Vanishing

T = TypeVar("T")
LEASE = 30.0
LONGEST = 600.0  # a lease while a model is loaded


class Database(Protocol):
    """As much of the store's database as is needed here."""

    async def write(self, run: Callable[[Connection], T]) -> T: ...


def steady() -> float:
    """Seconds since the machine began, asleep or not: nobody sets this clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass
class Desk:
    """Answers by name; `learn` is told of each result, `hello` when the engine is there, `figures`
    what it tells of itself."""

    database: Database
    hub: Hub
    hello: Callable[[Mapping[str, Any]], None]
    missing: Callable[[str, str], None]
    learn: Callable[[str, Mapping[str, Any]], Awaitable[None]]
    figures: Callable[[Mapping[str, Any]], None]
    heard_at: float = field(default_factory=steady)

    async def answer(self, said: Mapping[str, Any]) -> Any:
        """What a call is answered with. Raises KeyError for a call that is not known."""
        self.heard_at = steady()
        return await CALLS[said["call"]](self, said)

    async def _move(self, fn: Callable[[Connection], Moved | None]) -> Moved | None:
        moved = await self.database.write(fn)
        if moved is not None and moved.seq:
            self.hub.publish(moved)
        return moved

    async def _hello(self, said: Mapping[str, Any]) -> None:
        self.hello(said)

    async def _missing(self, said: Mapping[str, Any]) -> None:
        self.missing(said["name"], said["why"])

    async def _claim(self, said: Mapping[str, Any]) -> dict[str, Any]:
        now, wall = steady(), time.time()
        found = await self.database.write(
            lambda c: store.claim(c, now, wall, LEASE, busy=said["busy"])
        )
        if found.moved is not None:
            self.hub.publish(found.moved)
        row = found.row
        told = ("id", "fence", "spec", "solo", "checkpoint", "attempt")
        if row is None:
            return {"row": None}
        parent = self.hub.parent(row["id"])
        return {"row": {**{name: row[name] for name in told}, "parent": parent}}

    async def _renew(self, said: Mapping[str, Any]) -> dict[str, str]:
        told = [Progress(*one) for one in said["told"]]
        lease = min(max(float(said.get("lease", LEASE)), LEASE), LONGEST)
        # Who asks for longer says nothing for so long.
        self.heard_at += lease - LEASE
        until, wall = steady() + lease, time.time()
        return await self.database.write(lambda c: store.renew(c, told, until, wall))

    async def _checkpoint(self, said: Mapping[str, Any]) -> bool:
        until, wall = steady() + LEASE, time.time()
        job_id, fence, step, place = (said[name] for name in ("id", "fence", "step", "place"))
        moved = await self._move(
            lambda c: store.checkpointed(c, job_id, fence, step, place, until, wall)
        )
        return moved is not None

    async def _complete(self, said: Mapping[str, Any]) -> str:
        stored, wall = [Stored(*one) for one in said["stored"]], time.time()
        try:
            moved = await self._move(
                lambda c: store.complete(c, said["id"], said["fence"], said["result"], stored, wall)
            )
        except Vanishing:
            return "again"
        if moved is None:
            # A cancel that came in the last moment goes before.
            await self._canceled(said)
            return "lost"
        await self.learn(said["id"], said["result"])
        return "done"

    async def _fail(self, said: Mapping[str, Any]) -> None:
        wall = time.time()
        await self._move(
            lambda c: store.fail(c, said["id"], said["fence"], said["code"], said["detail"], wall)
        )

    async def _put_back(self, said: Mapping[str, Any]) -> None:
        wall, at = time.time(), steady() + said["delay"]
        await self._move(
            lambda c: store.put_back(c, said["id"], said["fence"], at, wall, refund=said["refund"])
        )

    async def _canceled(self, said: Mapping[str, Any]) -> None:
        wall = time.time()
        await self._move(lambda c: store.canceled(c, said["id"], said["fence"], wall))

    async def _step(self, said: Mapping[str, Any]) -> None:
        job_id, step = said["id"], said["step"]
        self.hub.publish(Live(job_id, "step", {"step": step, "steps": said["steps"]}))
        if said["preview"]:
            png = b64encode(said["preview"]).decode()
            self.hub.publish(Live(job_id, "preview", {"png": png, "step": step}))

    async def _figures(self, said: Mapping[str, Any]) -> None:
        self.figures(said)

    async def _piece(self, said: Mapping[str, Any]) -> None:
        self.hub.publish(Live(said["id"], "text", {"text": said["text"]}))


CALLS: dict[str, Callable[[Desk, Mapping[str, Any]], Awaitable[Any]]] = {
    "hello": Desk._hello,
    "missing": Desk._missing,
    "claim": Desk._claim,
    "renew": Desk._renew,
    "checkpoint": Desk._checkpoint,
    "complete": Desk._complete,
    "fail": Desk._fail,
    "put_back": Desk._put_back,
    "canceled": Desk._canceled,
    "step": Desk._step,
    "piece": Desk._piece,
    "figures": Desk._figures,
}
