"""Asking an ASGI application without a server: messages in, messages out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from diptych.service.guards.problem import App, Message, Scope

HOST = ("host", "localhost:8000")


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def slug(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        return json.loads(self.body)["type"].removeprefix("/problems/")


async def asked(
    app: App,
    method: str = "POST",
    path: str = "/v1/jobs",
    *,
    headers: Iterable[tuple[str, str]] = (HOST,),
    parts: Iterable[bytes | float] = (b"",),
    kind: str = "http",
) -> Answer:
    """The answer. `parts`: what comes of the body, a number is a pause in seconds; after the last
    the body is whole."""
    left = list(parts)
    sent: list[Message] = []

    async def receive() -> Message:
        while left and isinstance(left[0], float):
            await asyncio.sleep(left.pop(0))
        if not left:
            return {"type": "http.disconnect"}
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers]
    scope: Scope = {"type": kind, "method": method, "path": path, "headers": raw, "scheme": "http"}
    await app(scope, receive, send)
    first: Any = sent[0]
    body = b"".join(m.get("body", b"") for m in sent[1:])
    fields = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in first.get("headers", ())]
    assert len(dict(fields)) == len(fields)
    return Answer(status=first.get("status", first.get("code")), headers=dict(fields), body=body)
