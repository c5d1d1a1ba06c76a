"""What kind of content comes in and goes out, and the headers that every answer carries."""

from __future__ import annotations

from collections.abc import Mapping, Set
from email.message import Message as Header

from diptych.service.guards.problem import App, Message, Problem, Receive, Scope, Send, answer

_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})

# The page is all ours: no foreign origin, nothing inline, no frame around it (ruling 20).
HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class SecurityHeaders:
    """ASGI layer, the outermost: answers of the other gates carry the headers too. What the
    application sets itself stays."""

    def __init__(self, app: App, headers: Mapping[str, str] = HEADERS):
        self._app = app
        self._raw = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                names = {name.lower() for name, _ in own}
                message = {**message, "headers": own + [h for h in self._raw if h[0] not in names]}
            await send(message)

        await self._app(scope, receive, sending if scope["type"] == "http" else send)


class ContentGate:
    """ASGI layer: a body that changes something is application/json, on the paths in `uploads`
    multipart/form-data too; all else 415. A browser sends neither kind of JSON to a foreign server
    without asking it first."""

    def __init__(self, app: App, uploads: Set[str] = frozenset()):
        self._app, self._uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in _CHANGING or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        types = [value for name, value in scope["headers"] if name == b"content-type"]
        kinds = {"application/json"}
        kinds |= {"multipart/form-data"} if scope["path"] in self._uploads else set()
        if len(types) == 1 and is_kind(types[0].decode("latin-1"), kinds):
            await self._app(scope, receive, send)
            return
        problem = Problem(
            "unsupported-media-type",
            detail=f"Send {' or '.join(sorted(kinds))}.",
            field="Content-Type",
            headers={"Accept": ", ".join(sorted(kinds))},
        )
        await answer(problem, scope, send, close=True)


def is_kind(content_type: str, kinds: Set[str]) -> bool:
    """Whether a Content-Type is one of these, in UTF-8 where it says an encoding of JSON."""
    kind, _, parameters = (part.strip().lower() for part in content_type.partition(";"))
    charset = "utf-8"
    if parameters:  # a parser of mail, which is slow
        header = Header()
        header["content-type"] = content_type.replace("\r", " ").replace("\n", " ")
        charset = str(header.get_param("charset") or charset).lower()
    return kind in kinds and (kind != "application/json" or charset in ("utf-8", "utf8"))


def acceptable(accept: str, offered: tuple[str, ...]) -> str:
    """The offered kind that an Accept header likes best, of equals the first; "" likes all.

    Raises Problem 406.
    """
    if accept.strip(" ,") in ("", "*/*"):
        return offered[0]
    wishes = [_wish(part) for part in accept.split(",") if part.strip()]
    best = max(offered, key=lambda kind: _liked(kind, wishes))
    if _liked(best, wishes) > 0:
        return best
    detail = f"Accept {' or '.join(offered)}."
    raise Problem("not-acceptable", detail=detail, field="Accept")


def _wish(part: str) -> tuple[str, float]:
    kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weights = [p[2:] for p in parameters if p.startswith("q=")]
    try:
        return kind, min(1.0, max(0.0, float(weights[0]))) if weights else 1.0
    except ValueError:
        return kind, 0.0


def _liked(kind: str, wishes: list[tuple[str, float]]) -> float:
    """The weight of the narrowest wish that covers it (RFC 9110, 12.5.1)."""
    for pattern in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        weights = [weight for wish, weight in wishes if wish == pattern]
        if weights:
            return max(weights)
    return 0.0


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0").strip().lstrip(b"0")
    return b"transfer-encoding" in headers or bool(length)
