"""The application: a table of routes, behind the guards."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from diptych.service.api import (
    caption,
    embeddings,
    events,
    generate,
    health,
    jobs,
    models,
    openai_chat,
    openai_edits,
    openai_images,
    page,
    pictures,
    ratings,
    session,
    verify,
)
from diptych.service.api.asking import Ask, Row, endpoint, refused, said
from diptych.service.api.document import document
from diptych.service.api.shapes import AnyShape
from diptych.service.api.state import State
from diptych.service.guards.chain import guarded
from diptych.service.guards.hosts import allowed_hosts
from diptych.service.guards.problem import App, Problem

_ROOMS = (
    generate.ROUTES, jobs.ROUTES, events.ROUTES, pictures.ROUTES, ratings.ROUTES, caption.ROUTES,
    openai_images.ROUTES, openai_edits.ROUTES, openai_chat.ROUTES, embeddings.ROUTES,
    models.ROUTES, session.ROUTES, verify.ROUTES,
)  # fmt: skip
_SLUGS = {404: "not-found", 405: "method-not-allowed"}


def rows() -> tuple[Row, ...]:
    """All routes of one application."""
    given = (*(row for room in _ROOMS for row in room), *health.routes())

    async def openapi(ask: Ask) -> Response:
        return said(written)

    own = Row(
        method="GET", path="/openapi.json", handler=openapi, says="This document",
        gives=AnyShape, access="open",
    )  # fmt: skip
    written = document((*given, own))
    return (*given, own)


def make_app(state: State) -> App:
    """The ASGI application, with the page."""
    given = rows()
    app = Starlette(
        routes=[
            *(Route(row.path, endpoint(state, row), methods=[row.method]) for row in given),
            *page.routes(),
        ],
        exception_handlers={HTTPException: _no_route},
    )
    app.router.redirect_slashes = False
    settings = state.settings
    return guarded(
        app,
        hosts=allowed_hosts(settings.host, settings.public_url),
        public_url=settings.public_url,
        uploads=frozenset(row.path for row in given if row.form or row.large),
    )


def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = "GET /openapi.json lists what there is."
    headers = dict(error.headers or {})
    slug = _SLUGS.get(error.status_code, "malformed-request")
    return refused(Problem(slug, detail=detail, headers=headers), request)
