"""Who is meant and who asks: the names this server answers to, and requests of other sites.

The first is what keeps a foreign page from reaching a server on loopback by a name of its own that
points there (DNS rebinding); the second keeps it from posting there blindly.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from ipaddress import ip_address
from urllib.parse import urlsplit

from diptych.service.guards.problem import App, Problem, Receive, Scope, Send, answer

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_OURS = frozenset({"same-origin", "none"})  # none: typed by the user, or no page at all
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?")
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def allowed_hosts(host: str = "", public_url: str = "", more: Iterable[str] = ()) -> frozenset[str]:
    """Loopback names, the address listened on unless it stands for all, the public name."""
    names = {*more, *filter(None, [host, urlsplit(public_url).hostname])}
    named = {name.strip("[]").lower().rstrip(".") for name in names}
    return LOOPBACK | {name for name in named if not _stands_for_all(name)}


class HostGate:
    """ASGI layer: 421 for a Host that is not ours, 403 for a state-changing request or a WebSocket
    that a page of another origin sends. `public_url`: its origin is ours too, behind a proxy that
    rewrites Host."""

    def __init__(self, app: App, hosts: Set[str], public_url: str = ""):
        self._app, self._hosts = app, hosts
        public = urlsplit(public_url)
        self._public = f"{public.scheme}://{public.netloc}".lower() if public_url else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        problem = self._against(scope)
        if problem is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await answer(problem, scope, send, close=True)

    def _against(self, scope: Scope) -> Problem | None:
        host = _only(scope, b"host")
        place = _place(host or "", scope.get("scheme", "http"))
        if place is None or place[0] not in self._hosts:
            detail = "Ask by a name this server knows; the operator sets --host or --public-url."
            return Problem("misdirected", detail=detail, field="Host")
        if scope["type"] == "http" and scope["method"] in _READING:
            return None
        if not self._is_ours(scope, place):
            detail = "Send it from this server's own page, or without a browser."
            return Problem("foreign-origin", detail=detail, field="Origin")
        return None

    def _is_ours(self, scope: Scope, place: tuple[str, int]) -> bool:
        """Sec-Fetch-Site and Origin, each where it is sent; a browser sends at least one."""
        site, origin = _only(scope, b"sec-fetch-site"), _only(scope, b"origin")
        if site is None or origin is None or (site and site.lower() not in _OURS):
            return False
        if not origin or origin.lower() == self._public:
            return True
        scheme, _, authority = origin.partition("://")
        return scheme in ("http", "https") and _place(authority, scheme) == place


def _only(scope: Scope, name: bytes) -> str | None:
    """The one value of a header, "" if it is missing, None if there are several."""
    found = [value for key, value in scope["headers"] if key == name]
    return None if len(found) > 1 else found[0].decode("latin-1").strip() if found else ""


def _place(authority: str, scheme: str) -> tuple[str, int] | None:
    """Name and port of `host[:port]`, None for whatever else."""
    parts, port = _AUTHORITY.fullmatch(authority), _PORTS.get(scheme)
    if parts is None or port is None:
        return None
    return (parts[1] or parts[2]).lower().rstrip("."), int(parts[3] or port)


def _stands_for_all(name: str) -> bool:
    try:
        return ip_address(name).is_unspecified
    except ValueError:
        return not name or "*" in name
