"""A deadline for request headers, which uvicorn has not and no ASGI layer can give.

`uvicorn.Config(..., http=with_deadline(10.0))`: a connection whose first header is not whole after
so many seconds is closed. Between requests uvicorn's own `timeout_keep_alive` counts, but the first
byte of a next header ends it: so the deadline begins anew with each.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def with_deadline(seconds: float) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, closing whoever needs longer for a header."""

    class Protocol(HttpToolsProtocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
                self._wait()
            super().data_received(data)

        def on_headers_complete(self) -> None:
            self._stop()
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _wait(self) -> None:
            self._deadline = self.loop.call_later(seconds, self._close)

        def _stop(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _close(self) -> None:
            self._deadline = None
            if self.transport is not None:
                self.transport.close()

    return Protocol
