"""GET /v1/pictures/{sha256}: a picture, to whoever has its signed address."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Annotated, Literal

from pydantic import Field
from starlette.responses import Response

from diptych.foundation.errors import NotWritten, Unreadable
from diptych.service.api import reads
from diptych.service.api.asking import Ask, Row
from diptych.service.api.repairing import repaired
from diptych.service.guards import signing
from diptych.service.guards.fields import Strict
from diptych.service.guards.problem import Problem
from diptych.service.logs import LOG

_SHA = re.compile("[0-9a-f]{64}")
_SERVED = frozenset({"image/png"})


class Signed(Strict):
    expires: Annotated[str, Field(max_length=20)] = ""
    signature: Annotated[str, Field(max_length=100)] = ""
    core: Literal["", "0", "1"] = ""


async def picture(ask: Ask) -> Response:
    """The bytes, never as anything but a picture: with the signed statement where this server
    signs, or with core=1 those that its SHA-256 names."""
    sha256 = str(ask.request.path_params["sha256"])
    asked = ask.query(Signed)
    signing.verify(
        f"/v1/pictures/{sha256}", asked.expires, asked.signature, [ask.state.secret],
        now=time.time(),
    )  # fmt: skip
    media = ask.read(lambda c: reads.media_of(c, sha256)) if _SHA.fullmatch(sha256) else None
    content = await asyncio.to_thread(ask.state.artifacts.get, sha256) if media else None
    if media in _SERVED and content is None:
        raise await repaired(ask, sha256)
    if media not in _SERVED or content is None:
        raise Problem("not-found", detail="The picture was erased. Paint it anew from its seed.")
    if asked.core != "1" and ask.state.published is not None and painted(content):
        try:
            content = await asyncio.to_thread(ask.state.published, sha256) or content
        except (NotWritten, Unreadable) as error:
            # The picture as it is, and the next one who asks has it signed.
            LOG.warning("not signed", extra={"sha256": sha256, "why": str(error)})
    headers = {
        "cache-control": f"private, max-age={ask.state.settings.picture_seconds}, immutable",
        "content-disposition": f'inline; filename="{sha256[:12]}.png"',
    }
    return Response(content, headers=headers, media_type=media)


def painted(png: bytes) -> bool:
    """Whether it is a picture of ours: pictures that people send are kept without any text."""
    return b"tEXtdiptych\0" in png or b"iTXtdiptych\0" in png


ROUTES = (
    Row(
        method="GET", path="/v1/pictures/{sha256}", handler=picture, says="A picture",
        query=Signed, kinds=("image/png",), statuses=(403, 404, 503, 507), access="open",
    ),
)  # fmt: skip
