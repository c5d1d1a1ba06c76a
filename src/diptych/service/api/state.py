"""What the application is given: nothing here is made by it, and nothing is hidden elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from sqlalchemy import Connection

from diptych.service.api.hub import Hub
from diptych.service.api.settings import Settings
from diptych.service.figures import Figures
from diptych.service.guards import egress
from diptych.service.guards.keys import Key
from diptych.service.guards.moderation import Gate, WordList
from diptych.service.guards.pictures import Decoder
from diptych.service.guards.rates import Rates
from diptych.service.jobs.store import Stored

A = TypeVar("A")
T = TypeVar("T")
Does = Literal["paint", "read", "embed"]


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A model that is served. `size` (width, height) unless another is asked for; sides are
    multiples of `multiple` up to `most_side` pixels. `words`: the whole vocabulary where it is a
    small one. `chats`: it answers turns. `begins`: how it is shown a picture to begin from, as
    `Painting.shown` says it; None: not at all. `window`: tokens of a prompt that are read, 0 for
    any number, and how they are `counts`ed (`windows`). `fingerprint`: what the bytes of a picture
    depend on."""

    name: str
    does: Does
    size: tuple[int, int] = (0, 0)
    multiple: int = 1
    most_side: int = 0
    most_steps: int = 0
    steps: int = 0
    guidance: float = 0.0
    solvers: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    chats: bool = False
    begins: Literal["", "inside", "beside"] | None = None
    window: int = 0
    counts: Literal["", "words", "pieces"] = ""
    fingerprint: str = ""
    model_hash: str = ""


class Engine(Protocol):
    """What paints and reads, seen from here. `state`: starting | ready | broken; `late`: times its
    ETA, four of five jobs are done."""

    @property
    def models(self) -> Mapping[str, ModelInfo]: ...
    @property
    def state(self) -> str: ...
    @property
    def late(self) -> float: ...
    def ring(self) -> None: ...
    def price(self, spec: Mapping[str, Any]) -> float: ...


class Database(Protocol):
    """The store of jobs: one writer, many readers."""

    async def write(self, run: Callable[[Connection], T]) -> T: ...
    async def write_each(self, run: Callable[[Connection, list[A]], list[T]], item: A) -> T: ...
    def read(self, run: Callable[[Connection], T]) -> T: ...


class Artifacts(Protocol):
    """Files by their SHA-256; both functions block. `put` returns when the bytes are synced;
    `get` gives None for a file that is missing or altered."""

    def put(self, content: bytes, media: str, role: str) -> Stored: ...
    def get(self, sha256: str) -> bytes | None: ...


@dataclass(frozen=True, kw_only=True)
class State:
    """`keys` finds a key by the SHA-256 of its text; `secret`: at least 32 random bytes that stay
    the same over restarts; `gate`: which prompts are refused; `fetch`: a picture from the web;
    `published`: a painted picture with its signed statement, None where nothing is signed."""

    settings: Settings
    database: Database
    artifacts: Artifacts
    engine: Engine
    hub: Hub
    decoder: Decoder
    rates: Rates
    keys: Callable[[str], Key | None]
    secret: bytes = field(repr=False)
    published: Callable[[str], bytes | None] | None = None
    gate: Gate = field(default_factory=WordList)
    fetch: Callable[[str], Awaitable[bytes]] = egress.fetched
    figures: Figures = field(default_factory=Figures)
