"""/v1/session: the page gives a key for a cookie that no script can read."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from diptych.service.api.asking import COOKIE, Ask, Row, said, session_of
from diptych.service.api.shapes import SessionShape
from diptych.service.guards import keys
from diptych.service.guards.fields import Strict
from diptych.service.guards.keys import Key


class Session(Strict):
    key: Annotated[str, Field(max_length=200)]


async def sign_in(ask: Ask) -> Response:
    """A key for a cookie."""
    asked = await ask.body(Session)
    key = keys.authenticated(f"Bearer {asked.key}", ask.state.keys)
    response = said(_told(ask, key))
    age = ask.state.settings.session_seconds
    response.set_cookie(COOKIE, session_of(ask.state, key), max_age=age, **_bounds(ask))
    return response


async def sign_out(ask: Ask) -> Response:
    """The cookie is forgotten."""
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, **_bounds(ask))
    return response


async def session(ask: Ask) -> Response:
    """Who asks."""
    return said(_told(ask, ask.who))


def _told(ask: Ask, key: Key) -> dict[str, Any]:
    return {"owner": key.owner, "role": key.role, "keys": ask.state.settings.needs_keys}


def _bounds(ask: Ask) -> dict[str, Any]:
    secure = ask.base.startswith("https://")
    return {"path": "/", "httponly": True, "samesite": "strict", "secure": secure}


ROUTES = (
    Row(
        method="POST", path="/v1/session", handler=sign_in, says="Sign in", takes=Session,
        gives=SessionShape, access="open",
    ),
    Row(
        method="DELETE", path="/v1/session", handler=sign_out, says="Sign out", status=204,
        access="open",
    ),
    Row(method="GET", path="/v1/session", handler=session, says="Who asks", gives=SessionShape),
)  # fmt: skip
