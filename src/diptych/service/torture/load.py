"""Clients that ask, ask again, give up some of it, and keep a ledger of what they were promised."""

from __future__ import annotations

import http.client
import json
import threading
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from random import Random
from typing import Any

from PIL import Image

from diptych.foundation.errors import InvalidValue
from diptych.service.torture.checker import TERMINAL, Told

PAINT, READ = "/v1/generate", "/v1/caption"
CLIENTS = 6
PATIENCE = 300.0  # seconds that a client waits for one job
_COLORS = ("red", "green", "blue", "yellow")
_SHAPES = ("star", "circle", "square", "triangle")
_PASSING = (502, 503, 504, 507)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A request before it is sent. `twice`: sent again with its key; `cancel`: given up after so
    many seconds, None for not at all."""

    key: str
    body: Mapping[str, Any]
    path: str = PAINT
    twice: bool = False
    cancel: float | None = None

    @property
    def same(self) -> str:
        """What equal requests have in common."""
        return json.dumps(dict(self.body), sort_keys=True)


def wishes(random: Random, jobs: int) -> list[Wish]:
    """Small pictures in 2 to 12 steps and a caption now and then; a fifth is sent twice, an eighth
    of the pictures is given up, some are equal."""
    made: list[Wish] = []
    for number in range(jobs):
        if random.random() < 0.05:
            picture = _picture(random)
            made.append(
                Wish(key=f"torture-{number}", body={"base64": picture}, path=READ, twice=True)
            )
            continue
        prompt = f"a {random.choice(_COLORS)} {random.choice(_SHAPES)}"
        body = {
            "prompt": prompt, "seed": random.randrange(jobs),
            "num_inference_steps": random.randint(2, 12),
        }  # fmt: skip
        painted = [one for one in made if one.path == PAINT]
        if painted and random.random() < 0.1:
            body = dict(random.choice(painted).body)
        cancel = random.uniform(0.0, 0.5) if random.random() < 0.125 else None
        made.append(
            Wish(key=f"torture-{number}", body=body, twice=random.random() < 0.2, cancel=cancel)
        )
    return made


def _picture(random: Random) -> str:
    """A plain one, as base64."""
    content = BytesIO()
    Image.new("RGB", (32, 32), tuple(random.randrange(256) for _ in range(3))).save(content, "png")
    return b64encode(content.getvalue()).decode()


@dataclass
class Load:
    """Sends all wishes by a few clients, each of which waits for its job before the next."""

    port: int
    wishes: Sequence[Wish]
    told: list[Told] = field(default_factory=list)
    ended: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._door = threading.Lock()
        self._left = iter(self.wishes)
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(CLIENTS)]

    def begin(self) -> None:
        """Start the clients."""
        for one in self._threads:
            one.start()

    @property
    def busy(self) -> bool:
        """Whether a client has still something to do."""
        return any(one.is_alive() for one in self._threads)

    def end(self) -> None:
        """Tell the clients to leave, and wait for them."""
        self.stop.set()
        for one in self._threads:
            one.join(10.0)

    def _client(self) -> None:
        while not self.stop.is_set():
            with self._door:
                wish = next(self._left, None)
            if wish is None:
                return
            try:
                self._one(wish)
            except InvalidValue as error:
                self.wrong.append(str(error))
            self.ended += 1

    def _one(self, wish: Wish) -> None:
        headers = {"Idempotency-Key": wish.key}
        for _ in range(2 if wish.twice else 1):
            said = self._until_taken("POST", wish.path, wish.body, headers)
            if said is None:
                return
            self._promised(wish, said["job_id"])
        job_id = said["job_id"]
        if wish.cancel is not None:
            self.stop.wait(wish.cancel)
            # In the ledger before it is asked: an answer that is lost may have been carried out.
            self._promised(wish, job_id, cancel=True)
            self._until_taken("POST", f"/v1/jobs/{job_id}/cancel", {}, {}, fine=(409,))
        self._wait(job_id)

    def _promised(self, wish: Wish, job_id: str, *, cancel: bool = False) -> None:
        with self._door:
            self.told.append(Told(job_id=job_id, key=wish.key, same=wish.same, cancel=cancel))

    def _wait(self, job_id: str) -> None:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and not self.stop.is_set():
            said = self._until_taken("GET", f"/v1/jobs/{job_id}", None, {})
            if said is None or said["status"] in TERMINAL:
                return
            self.stop.wait(0.1)

    def _until_taken(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        fine: Sequence[int] = (),
    ) -> dict[str, Any] | None:
        """The answer, asked for again while the server is away or has no room; None when we are to
        stop. Raises InvalidValue for an answer that no fault excuses."""
        while not self.stop.is_set():
            status, said = self._asked(method, path, body, headers)
            if 200 <= status < 300 or status in fine:
                return said
            if status and status not in _PASSING and status != 429:
                raise InvalidValue(f"{method} {path} was answered with {status}: {said}")
            self.refused += bool(status)
            self.stop.wait(0.2)
        return None

    def _asked(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, Any]]:
        """Status 0 where there was no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10.0)
        sent = None if body is None else json.dumps(dict(body))
        kind = {} if body is None else {"Content-Type": "application/json"}
        try:
            connection.request(method, path, sent, {**kind, **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            return 0, {}
        finally:
            connection.close()
