"""How much and how slowly a body may come, as a layer around the application.

Here the header is already read: a client that never ends its header is only seen by the server
(`header_deadline`). What can be done here: refuse a declared length before a byte of the body is
read, count what really comes, and give up on who sends nothing for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Set
from dataclasses import dataclass

from diptych.service.guards.problem import App, Message, Problem, Receive, Scope, Send, answer


@dataclass(frozen=True, kw_only=True)
class Caps:
    """Bytes of a body; seconds without any byte of it; seconds until it must be whole. `uploads`:
    the paths whose bodies may be `upload` bytes long, all others `plain`."""

    plain: int = 1 << 20
    upload: int = 20 << 20
    idle: float = 10.0
    whole: float = 120.0
    uploads: Set[str] = frozenset()

    def most(self, path: str) -> int:
        return self.upload if path in self.uploads else self.plain


class _Cut(Exception):
    """Ends the application's reading; whatever it makes of that is not sent."""


class BodyCap:
    """ASGI layer: 413 above the cap, declared or counted, 408 for a body that does not come, 400
    for a length that is none. In each case the connection ends."""

    def __init__(self, app: App, caps: Caps | None = None):
        self._app, self._caps = app, caps or Caps()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._caps.most(scope["path"])
        if early := _declared(scope, most):
            await answer(early, scope, send, close=True)
            return
        await _Reading(caps=self._caps, most=most, receive=receive, send=send).run(self._app, scope)


class _Reading:
    """One request: its body is counted, and once cut the answer is ours."""

    def __init__(self, *, caps: Caps, most: int, receive: Receive, send: Send):
        self._caps, self._most, self._receive, self._send = caps, most, receive, send
        self._count, self._done, self._started = 0, False, False
        self._cut: Problem | None = None
        self._end = asyncio.get_running_loop().time() + caps.whole

    async def run(self, app: App, scope: Scope) -> None:
        try:
            await app(scope, self._next, self._answer)
        except Exception:
            if self._cut is None:
                raise
        if self._cut and not self._started:
            await answer(self._cut, scope, self._send, close=True)

    async def _next(self) -> Message:
        if self._cut:
            raise _Cut
        if self._done:  # what follows is the client's leaving, which may take for ever
            return await self._receive()
        left = self._end - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(0.0, min(self._caps.idle, left))):
                message = await self._receive()
        except TimeoutError:
            detail = "Send the body without pauses."
            raise self._cutting(Problem("read-timeout", detail=detail)) from None
        if message["type"] == "http.request":
            self._count += len(message.get("body", b""))
            self._done = not message.get("more_body", False)
            if self._count > self._most:
                raise self._cutting(_too_large(self._most))
        return message

    async def _answer(self, message: Message) -> None:
        if self._cut and not self._started:
            return  # the application's own words for a reading that broke off
        self._started = True
        await self._send(message)

    def _cutting(self, problem: Problem) -> _Cut:
        self._cut = problem
        return _Cut()


def _declared(scope: Scope, most: int) -> Problem | None:
    """What the header alone says against the body."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    if not lengths:
        return None
    if len(set(lengths)) > 1 or not lengths[0].isdigit():
        return Problem("malformed-request", detail="Send one Content-Length, in digits.")
    digits = lengths[0].lstrip(b"0")
    if len(digits) > 18 or int(digits or b"0") > most:
        return _too_large(most)
    return None


def _too_large(most: int) -> Problem:
    return Problem("too-large", detail=f"Send at most {most} bytes.", extra={"most_bytes": most})
