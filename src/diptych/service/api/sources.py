"""Pictures that are sent: from an address, as base64 or as a file; decoded, and kept as PNG."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from PIL import Image

from diptych.service.api import reads
from diptych.service.api.asking import Ask
from diptych.service.guards import signing
from diptych.service.guards.fields import one_source
from diptych.service.guards.pictures import Decoded, from_base64
from diptych.service.guards.problem import Problem
from diptych.service.jobs.store import Stored


@dataclass(frozen=True)
class Given:
    """A picture that is kept; `warnings`: what was done to it."""

    stored: Stored
    warnings: tuple[str, ...]


async def given(ask: Ask, sources: Mapping[str, str | bytes | None]) -> Given:
    """The one picture of a request: `image_url` is an address, bytes a file, and any other text
    base64. Raises Problem."""
    name = one_source(sources)
    content = await content_of(ask, name, sources[name] or b"", f"/{name}")
    return await kept(ask, content, f"/{name}")


async def from_url(ask: Ask, url: str, field: str) -> Given:
    """A picture by its address or a data: address, as OpenAI's interface has it."""
    if url.startswith("data:"):
        return await kept(ask, from_base64(url, field), field)
    return await kept(ask, await _fetched(ask, url), field)


async def kept(ask: Ask, content: bytes, field: str) -> Given:
    """Decoded in a process of its own; the file that was sent is never kept."""
    decoded = await ask.state.decoder.decoded(content, field)
    picture = Image.frombytes("RGB", (decoded.width, decoded.height), decoded.pixels)
    stored = await asyncio.to_thread(
        lambda: ask.state.artifacts.put(png_of(picture), "image/png", "input")
    )
    return Given(stored, decoded.warnings)


async def decoded_of(ask: Ask, name: str, source: str | bytes | None, field: str) -> Decoded:
    """A picture that is sent in a field of this name. Raises Problem."""
    content = await content_of(ask, name, source or b"", field)
    return await ask.state.decoder.decoded(content, field)


async def content_of(ask: Ask, name: str, source: str | bytes, field: str) -> bytes:
    """The bytes that a source stands for. Raises Problem."""
    if isinstance(source, bytes):
        return source
    if name == "image_url":
        return await _fetched(ask, source)
    return from_base64(source, field)


async def _fetched(ask: Ask, url: str) -> bytes:
    """A picture of ours needs no way over the network, which would not be gone anyway."""
    head = f"{ask.base}/v1/pictures/"
    if not url.startswith(head):
        return await ask.state.fetch(url)
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    signing.verify(
        parts.path, query.get("expires", ""), query.get("signature", ""), [ask.state.secret],
        now=time.time(),
    )  # fmt: skip
    sha256 = url[len(head) :].partition("?")[0]
    media = ask.read(lambda c: reads.media_of(c, sha256))
    content = await asyncio.to_thread(ask.state.artifacts.get, sha256) if media else None
    if content is None:
        raise Problem("not-found", detail="The picture was erased.", field="/image_url")
    return content


def png_of(picture: Image.Image) -> bytes:
    """A file that is quick to write."""
    content = io.BytesIO()
    picture.save(content, format="PNG", compress_level=1)
    return content.getvalue()
