"""One request: who asks, what was sent, and how refusals are said."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel
from sqlalchemy import Connection
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from diptych.foundation.errors import NotWritten
from diptych.service import logs, traces
from diptych.service.api.state import State
from diptych.service.guards import keys, multipart, signing
from diptych.service.guards.fields import Strict, validated
from diptych.service.guards.json_gate import parsed
from diptych.service.guards.keys import Key
from diptych.service.guards.media import acceptable
from diptych.service.guards.multipart import Form
from diptych.service.guards.problem import CONTENT_TYPE, Problem, request_id
from diptych.service.jobs.store import Vanishing
from diptych.service.logs import LOG

T = TypeVar("T")
Body = TypeVar("Body", bound=BaseModel)
Access = Literal["open", "user", "admin"]

KEYED = ("Idempotency-Key",)

COOKIE = "diptych_session"
LOCAL = Key(sha256="", prefix="", owner="local", role="admin")
_READING = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request of somebody who may ask it."""

    state: State
    request: Request
    who: Key

    @property
    def owner(self) -> str:
        return self.who.owner

    async def body(self, model: type[Body]) -> Body:
        """The JSON body as a model. Raises Problem."""
        if self.is_form:
            raise Problem("unsupported-media-type", detail="Send JSON.", field="Content-Type")
        return validated(model, parsed(await self.request.body()))

    @property
    def is_form(self) -> bool:
        return self.request.headers.get("content-type", "").lower().startswith("multipart/")

    async def form(self) -> Form:
        """The body as a form. Raises Problem."""
        body = cast("AsyncGenerator[bytes, None]", self.request.stream())
        return await multipart.form(self.request.headers["content-type"], body)

    def query(self, model: type[Body]) -> Body:
        """The query by a model of strings. Raises Problem for an unknown or doubled name."""
        if not self.request.scope["query_string"]:
            return validated(model, {})
        pairs = self.request.query_params.multi_items()
        if len({name for name, _ in pairs}) < len(pairs):
            raise Problem("bad-field", detail="Send each query value once.")
        return validated(model, dict(pairs))

    def read(self, run: Callable[[Connection], T]) -> T:
        """Ask the database. It blocks the loop: a reader of SQLite waits for nobody."""
        return self.state.database.read(run)

    @property
    def base(self) -> str:
        """What absolute addresses begin with; the host has passed the gate."""
        public = self.state.settings.public_url.rstrip("/")
        return public or f"{self.request.url.scheme}://{self.request.url.netloc}"


class Nothing(Strict):
    """A query without values, or a body without fields."""


Handler = Callable[[Ask], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A route. `takes`: the model of its body, `gives`: of its answer, for the document; `form`:
    it reads multipart/form-data, `large`: long JSON, both up to 20 MiB; `kinds`: further kinds of
    content that it may answer with; `query`: the model of its query; `headers`: those it reads;
    `statuses`: those of its own besides `status`."""

    method: str
    path: str
    handler: Handler
    says: str
    takes: type[BaseModel] | None = None
    gives: type[BaseModel] | None = None
    query: type[BaseModel] = Nothing
    status: int = 200
    statuses: Sequence[int] = ()
    headers: Sequence[str] = ()
    kinds: Sequence[str] = ()
    form: bool = False
    large: bool = False
    access: Access = "user"


def said(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer that no cache keeps."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    response = Response(text, status, {"cache-control": "no-store"}, "application/json")
    response.headers.update(headers or {})
    return response


def refused(problem: Problem, request: Request) -> Response:
    """The answer of a refusal."""
    content = json.dumps(problem.body(request_id(request.scope)))
    headers = {"cache-control": "no-store", **problem.headers}
    return Response(content, problem.status, headers, CONTENT_TYPE)


def endpoint(state: State, row: Row) -> Callable[[Request], Awaitable[Response]]:
    """The route as Starlette calls it. No error leaves it, and none says what was sent."""

    route = f"{row.method} {row.path}"
    answered = state.figures.answered.labels(route)

    async def run(request: Request) -> Response:
        began = time.perf_counter()
        with traces.span(route, request.headers.get("traceparent", "")):
            response = await _answered(state, row, request)
        response.headers.setdefault("x-request-id", request_id(request.scope))
        state.figures.answers.labels(route, response.status_code).inc()
        took = time.perf_counter() - began
        answered.observe(took)
        logs.answered(route, response.status_code, took, request_id(request.scope))
        return response

    return run


async def _answered(state: State, row: Row, request: Request) -> Response:
    try:
        who = LOCAL if row.access == "open" else caller(state, request)
        if row.access == "admin":
            keys.administrator(who)
        ask = Ask(state=state, request=request, who=who)
        if request.method not in _READING:
            user = None if row.access == "open" else who.owner
            address = request.client.host if request.client else ""
            state.rates.admit(user=user, address=address)
        ask.query(row.query)
        if offered := (*(["application/json"] if row.gives else []), *row.kinds):
            acceptable(request.headers.get("accept", ""), offered)
        return await row.handler(ask)
    except Problem as problem:
        return refused(problem, request)
    except ClientDisconnect:
        return refused(Problem("malformed-request", detail="Send the whole body."), request)
    except (NotWritten, Vanishing):
        detail = "Nothing was accepted. Ask again later."
        return refused(Problem("busy", detail=detail, headers={"Retry-After": "5"}), request)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return refused(Problem("disk-full", detail="Ask the operator for room."), request)
        # The kind of the error and the place, not its words: they may hold what was sent.
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else ""
        said_of_it = {"error": type(error).__name__, "at": place}
        LOG.error("internal", extra={**said_of_it, "request_id": request_id(request.scope)})
        detail = "Tell the operator the request_id."
        return refused(Problem("internal", detail=detail), request)


def caller(state: State, request: Request) -> Key:
    """Who asks: by a key, by the page's cookie, or the one person at this machine.

    Raises Problem 401.
    """
    authorization = request.headers.get("authorization")
    if authorization is None and (token := _cookie(request)):
        return _of_session(state, token)
    if authorization is None and not state.settings.needs_keys:
        return LOCAL
    if not state.settings.needs_keys and not _is_ours(authorization or ""):
        return LOCAL  # a client that must send some key, on a server that has none
    return keys.authenticated(authorization, state.keys)


def _is_ours(authorization: str) -> bool:
    return authorization.partition(" ")[2].strip().startswith("dpt_")


def _cookie(request: Request) -> str:
    try:
        found = SimpleCookie(request.headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def session_of(state: State, key: Key) -> str:
    """The cookie of a key: which one, until when, and our signature."""
    expires = int(time.time()) + state.settings.session_seconds
    path = signing.signed(f"/session/{key.sha256}", state.secret, expires=expires)
    _, _, rest = path.partition("?expires=")
    until, _, signature = rest.partition("&signature=")
    return f"{key.sha256}.{until}.{signature}"


def _of_session(state: State, token: str) -> Key:
    sha, _, rest = token.partition(".")
    expires, _, signature = rest.partition(".")
    try:
        signing.verify(f"/session/{sha}", expires, signature, [state.secret], now=time.time())
    except Problem:
        found = None
    else:
        found = state.keys(sha)
    if found is None:
        detail = "Sign in anew with POST /v1/session."
        raise Problem(
            "unauthorized", detail=detail, field="Cookie", headers={"WWW-Authenticate": "Bearer"}
        )
    return found
