"""POST /v1/verify: what a picture says of where it comes from. Nothing of it is kept."""

from __future__ import annotations

import asyncio

from PIL import Image
from starlette.responses import Response

from diptych.imaging.provenance import provenance_of
from diptych.service.api.asking import Ask, Row, said
from diptych.service.api.shapes import VerifyShape
from diptych.service.api.sources import content_of
from diptych.service.guards.fields import Strict, one_source, validated
from diptych.service.guards.problem import Problem


class Verify(Strict):
    """One picture from `image_url`, `image` or `base64` (both base64); in a form, `image` is the
    file."""

    image_url: str | None = None
    image: str | None = None
    base64: str | None = None


async def verify(ask: Ask) -> Response:
    """Decoded under the bounds of every picture that is sent, before anything else reads it."""
    asked, upload = await _asked(ask)
    sources: dict[str, str | bytes | None] = dict(asked.model_dump())
    if upload is not None:
        if asked.image is not None:
            raise Problem("bad-source", detail="Send one picture.", field="/image")
        sources["image"] = upload
    name = one_source(sources)
    content = await content_of(ask, name, sources[name] or b"", f"/{name}")
    decoded = await ask.state.decoder.decoded(content, f"/{name}")
    picture = Image.frombytes("RGB", (decoded.width, decoded.height), decoded.pixels)
    found = await asyncio.to_thread(provenance_of, content, picture)
    return said(found.told())


async def _asked(ask: Ask) -> tuple[Verify, bytes | None]:
    if not ask.is_form:
        return await ask.body(Verify), None
    form = await ask.form()
    if form.files.keys() - {"image"}:
        raise Problem("bad-field", detail="Send the file as 'image'.")
    return validated(Verify, dict(form.texts)), form.files.get("image")


ROUTES = (
    Row(
        method="POST", path="/v1/verify", handler=verify, says="Where a picture comes from",
        takes=Verify, gives=VerifyShape, form=True, statuses=(404, 502),
    ),
)  # fmt: skip
