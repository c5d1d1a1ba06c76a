"""The page's files, as the build left them in `service/page`."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parents[1] / "page"
# The names of assets hold a hash of what is in them; the page itself is asked for each time.
_FOREVER = "public, max-age=31536000, immutable"

_UNBUILT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Diptych</title>
<h1>Diptych</h1>
<p>The server runs; its page was not built. In a checkout, <code>make setup</code> builds it.
<p><a href="/openapi.json">What the server can be asked</a>
"""


class _Assets(StaticFiles):
    def file_response(self, *args: object, **more: object) -> Response:
        response = super().file_response(*args, **more)  # pyright: ignore[reportArgumentType]
        response.headers["cache-control"] = _FOREVER
        return response


def routes(folder: Path = FOLDER) -> list[BaseRoute]:
    """The page, or a plain one that says how it is built."""
    if not (folder / "index.html").is_file():
        return [Route("/", _unbuilt)]
    return [
        Route("/", _sent(folder / "index.html")),
        Route("/icon.svg", _sent(folder / "icon.svg")),
        Mount("/assets", _Assets(directory=folder / "assets")),
    ]


def _sent(path: Path):
    async def send(request: Request) -> Response:
        return FileResponse(path, headers={"cache-control": "no-cache"})

    return send


async def _unbuilt(request: Request) -> Response:
    return HTMLResponse(_UNBUILT)
