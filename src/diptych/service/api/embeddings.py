"""POST /v1/embeddings: texts and pictures as vectors, by OpenAI's interface."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from diptych.service.api.admitting import admitted_one, prompt_of
from diptych.service.api.asking import KEYED, Ask, Row, said
from diptych.service.api.models import model_of
from diptych.service.api.shapes import AnyShape
from diptych.service.api.sources import kept
from diptych.service.api.waiting import ended
from diptych.service.guards.fields import Strict
from diptych.service.guards.pictures import from_base64
from diptych.service.guards.problem import Problem
from diptych.service.jobs import accepting
from diptych.service.jobs.accepting import Wanted

MOST_TEXTS = 64
MOST_PICTURES = 8


class Embeddings(Strict):
    """OpenAI's fields, of the values that are offered here; `images`, in base64, is ours, and their
    vectors come after those of the texts. `user` is taken and not kept."""

    input: str | Annotated[list[str], Field(max_length=MOST_TEXTS)] | None = None
    images: Annotated[list[str], Field(max_length=MOST_PICTURES)] | None = None
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: Annotated[str, Field(max_length=256)] | None = None


async def embeddings(ask: Ask) -> Response:
    """Vectors, by a job that is waited for."""
    asked = await ask.body(Embeddings)
    info = model_of(ask, asked.model, "embed")
    texts = [asked.input] if isinstance(asked.input, str) else list(asked.input or ())
    pictures = asked.images or []
    if not texts and not pictures:
        raise Problem("bad-field", detail="Send texts as input, or images.", field="/input")
    for i, text in enumerate(texts):
        field = "/input" if isinstance(asked.input, str) else f"/input/{i}"
        if not text:
            raise Problem("empty-text", detail="Write something.", field=field)
        prompt_of(ask, text, field)
    inputs = [
        (await kept(ask, from_base64(one, f"/images/{i}"), f"/images/{i}")).stored
        for i, one in enumerate(pictures)
    ]
    spec = {
        "kind": "embed", "model": info.name, "texts": texts,
        "pictures": [one.sha256 for one in inputs],
    }  # fmt: skip
    wanted = Wanted(
        kind="embed", spec=spec, cost=ask.state.engine.price(spec), rank=accepting.INTERACTIVE,
        inputs=inputs, equal=info.fingerprint,
    )  # fmt: skip
    ticket = await admitted_one(ask, wanted, spec)
    vectors = (await ended(ask, ticket.job_id)).result["vectors"]
    data = [
        {"object": "embedding", "index": i, "embedding": _as(one, asked.encoding_format)}
        for i, one in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 0, "total_tokens": 0}
    return said({"object": "list", "data": data, "model": info.name, "usage": usage})


def _as(vector: Sequence[float], form: str | None) -> Any:
    """Numbers, or base64 of little-endian float32."""
    if form != "base64":
        return list(vector)
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


ROUTES = (
    Row(
        method="POST", path="/v1/embeddings", handler=embeddings,
        says="Vectors, by OpenAI's interface", takes=Embeddings,
        headers=KEYED, gives=AnyShape, large=True,
        statuses=(404, 409, 410, 504),
    ),
)  # fmt: skip
