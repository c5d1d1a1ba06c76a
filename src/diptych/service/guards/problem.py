"""Refusals, said as RFC 9457 problems: what is wrong and what to do, never what was sent."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any
from uuid import uuid4

CONTENT_TYPE = "application/problem+json"

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Slug: status and title. The title belongs to the kind; the detail to the single refusal.
PROBLEMS: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "malformed-json": (400, "The body is not JSON that is read here"),
        "malformed-form": (400, "The form is not multipart/form-data that is read here"),
        "malformed-request": (400, "The request contradicts itself"),
        "not-offered": (400, "No model of this server does that"),
        "unauthorized": (401, "A valid key is needed"),
        "forbidden": (403, "This key may not do that"),
        "foreign-origin": (403, "The request comes from another site"),
        "blocked-address": (403, "The address is not fetched from"),
        "moderated": (403, "The prompt is refused by the rules of this server"),
        "bad-signature": (403, "The signed address is wrong or has expired"),
        "not-found": (404, "There is nothing here"),
        "unknown-name": (404, "There is nothing of this name"),
        "method-not-allowed": (405, "This method is not offered here"),
        "not-acceptable": (406, "No offered form of the answer is acceptable"),
        "read-timeout": (408, "The body came too slowly"),
        "wrong-state": (409, "The job is in another state"),
        "model-unavailable": (409, "The model cannot be loaded"),
        "gone": (410, "It was erased or has expired"),
        "too-large": (413, "The body is too large"),
        "too-many-pixels": (413, "The picture has too many pixels"),
        "unsupported-media-type": (415, "This kind of content is not read here"),
        "not-a-picture": (415, "This is no PNG, JPEG, WebP or GIF"),
        "misdirected": (421, "This server does not answer to that host name"),
        "not-finite": (422, "A number is not finite"),
        "bad-text": (422, "A text holds characters that are not text"),
        "bad-field": (422, "A field is unknown, doubled, missing or of the wrong kind"),
        "bad-size": (422, "The size is not one the model paints"),
        "over-limit": (422, "More is asked for than a request may have"),
        "too-long": (422, "The text is too long"),
        "unknown-words": (422, "The model does not know these words"),
        "empty-text": (422, "The text is empty"),
        "bad-source": (422, "One picture is needed, from one source"),
        "bad-base64": (422, "The text is not base64"),
        "broken-picture": (422, "The picture cannot be read"),
        "bad-shape": (422, "The picture is too small or too narrow"),
        "bad-url": (422, "The address is not an http or https URL"),
        "key-reused": (422, "The idempotency key stands for another request"),
        "rate-limited": (429, "Too many requests"),
        "internal": (500, "The server failed"),
        "fetch-failed": (502, "The picture could not be fetched"),
        "queue-full": (503, "The queue is full"),
        "busy": (503, "The server cannot accept this now"),
        "not-ready": (504, "The job is not done yet"),
        "disk-full": (507, "The server has no room left"),
    }
)
_TAKEN = frozenset({"type", "title", "status", "detail", "field", "request_id"})


class Problem(Exception):  # no dataclass: a frozen one cannot be raised through a context manager
    """One refusal; nothing of it changes later. `field`: a JSON pointer or the name of a form
    field, header or query value; `extra`: further members of the body; `headers`: of the answer.
    Raises ValueError for a slug outside `PROBLEMS` or an extra member with a taken name."""

    def __init__(
        self,
        slug: str,
        *,
        detail: str,
        field: str = "",
        extra: Mapping[str, Any] = MappingProxyType({}),
        headers: Mapping[str, str] = MappingProxyType({}),
    ):
        if slug not in PROBLEMS:
            raise ValueError(f"There is no problem called {slug!r}.")
        if taken := _TAKEN & extra.keys():
            raise ValueError(f"The members {sorted(taken)} are the problem's own.")
        super().__init__(slug, detail)
        status, title = PROBLEMS[slug]
        own = {"slug": slug, "status": status, "title": title, "detail": detail, "field": field}
        own |= {"extra": MappingProxyType(dict(extra)), "headers": MappingProxyType(dict(headers))}
        self.__dict__.update(own)

    slug: str
    status: int
    title: str
    detail: str
    field: str
    extra: Mapping[str, Any]
    headers: Mapping[str, str]

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("__"):  # the traceback and its like are Python's to set
            raise AttributeError(f"A problem does not change; {name!r} was to be set.")
        super().__setattr__(name, value)

    @property
    def type(self) -> str:
        return f"/problems/{self.slug}"

    def body(self, request_id: str) -> dict[str, Any]:
        """The members of RFC 9457, `field` only where there is one."""
        members = {"type": self.type, "title": self.title, "status": self.status}
        members |= {"detail": self.detail, "request_id": request_id}
        if self.field:
            members["field"] = self.field
        return members | dict(self.extra)


def request_id(scope: Scope) -> str:
    """The id of this request: drawn at the first question, the same ever after."""
    state = scope.setdefault("state", {})
    return str(state.setdefault("request_id", uuid4().hex))


async def answer(problem: Problem, scope: Scope, send: Send, *, close: bool = False) -> None:
    """Send the whole response. `close`: the connection ends with it, as it must where a part of
    the body was not read."""
    content = json.dumps(problem.body(request_id(scope))).encode()
    headers = {"content-type": CONTENT_TYPE, "content-length": str(len(content))}
    headers |= {name.lower(): value for name, value in problem.headers.items()}
    headers["cache-control"] = "no-store"
    if close:
        headers["connection"] = "close"
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": content})
