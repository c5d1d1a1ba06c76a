"""/v1/images: OpenAI's interface to painting. n pictures are n jobs, picture i with seed + i.

What stands in `openai_edits` begins from a picture and answers in the same way.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Row as Found
from starlette.responses import Response, StreamingResponse

from diptych.service.api import reads
from diptych.service.api.admitting import admitted
from diptych.service.api.answers import picture_url
from diptych.service.api.asking import KEYED, Ask, Row, said
from diptych.service.api.beginning import Beginning
from diptych.service.api.events import HEADERS, STREAM
from diptych.service.api.generate import Generate, painting
from diptych.service.api.hub import Live
from diptych.service.api.shapes import AnyShape
from diptych.service.api.waiting import ended, following, well
from diptych.service.guards.fields import LARGEST_SEED, Seed, Strict
from diptych.service.guards.problem import Problem

MOST_PICTURES = 10
_SIZE = re.compile("([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


class Images(Strict):
    """OpenAI's fields, of the values that are offered here; the last four are ours. `user` is
    taken and not kept."""

    prompt: str
    model: str | None = None
    n: Annotated[int, Field(ge=1, le=MOST_PICTURES)] | None = None
    size: str | None = None
    response_format: Literal["url", "b64_json"] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None
    background: Literal["auto", "opaque"] | None = None
    output_format: Literal["png"] | None = None
    quality: Literal["auto"] | None = None
    moderation: Literal["auto"] | None = None
    user: Annotated[str, Field(max_length=256)] | None = None
    negative_prompt: str = ""
    num_inference_steps: Annotated[int, Field(ge=1)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=100)] | None = None
    seed: Seed | None = None


async def generations(ask: Ask) -> Response:
    """Pictures at once, or step by step."""
    asked = await ask.body(Images)
    return await painted(ask, asked, Beginning(), "image_generation")


async def painted(ask: Ask, asked: Images, begin: Beginning, kind: str) -> Response:
    """The answer, or a stream of events whose names begin with `kind`."""
    number = asked.n or 1
    if asked.stream and number > 1:
        raise Problem("bad-field", detail="A stream is of one picture.", field="/n")
    seed = secrets.randbelow(LARGEST_SEED - MOST_PICTURES) if asked.seed is None else asked.seed
    if seed > LARGEST_SEED - number + 1:
        raise Problem("bad-field", detail="Each picture has a seed of its own.", field="/seed")
    wanted = [painting(ask, _one(asked, seed + i), begin) for i in range(number)]
    tickets = await admitted(ask, wanted, {**asked.model_dump(), **begin.spec})
    if asked.stream:
        stream = _stream(ask, tickets[0].job_id, wanted[0].steps, asked.partial_images or 0, kind)
        return StreamingResponse(stream, headers=HEADERS, media_type=STREAM)
    rows = await asyncio.gather(*(ended(ask, ticket.job_id) for ticket in tickets))
    data = await _pictures(ask, rows, asked.response_format or "url")
    return said({"created": int(time.time()), "data": data})


def size_of(asked: Images) -> tuple[int | None, int | None]:
    """Width and height, where they are said. Raises Problem."""
    size = _SIZE.fullmatch(asked.size or "")
    if asked.size not in (None, "auto") and size is None:
        raise Problem("bad-size", detail="Write it as WIDTHxHEIGHT, or auto.", field="/size")
    return (int(size[1]), int(size[2])) if size else (None, None)


def _one(asked: Images, seed: int) -> Generate:
    width, height = size_of(asked)
    return Generate(
        prompt=asked.prompt, negative_prompt=asked.negative_prompt, model=asked.model, width=width,
        height=height, num_inference_steps=asked.num_inference_steps, seed=seed,
        guidance_scale=asked.guidance_scale, strict=True,  # the answer has no place for a warning
    )  # fmt: skip


async def _pictures(
    ask: Ask, rows: Sequence[Found[Any]], form: Literal["url", "b64_json"]
) -> list[dict[str, str]]:
    made = ask.read(lambda c: reads.made_by(c, [row.id for row in rows]))
    files = [next(one.sha256 for one in made[row.id] if one.role == "picture") for row in rows]
    if form == "url":
        return [{"url": picture_url(ask, sha256)} for sha256 in files]
    return [{"b64_json": await _bytes(ask, sha256)} for sha256 in files]


async def _bytes(ask: Ask, sha256: str) -> str:
    content = await asyncio.to_thread(ask.state.artifacts.get, sha256)
    if content is None:
        raise Problem("gone", detail="The picture was erased.")
    return base64.b64encode(content).decode()


async def _stream(
    ask: Ask, job_id: str, steps: int, parts: int, kind: str
) -> AsyncIterator[str]:  # fmt: skip
    """`parts` previews, evenly over the steps, and the picture."""
    sent = 0
    try:
        async for one in following(ask, job_id):
            if isinstance(one, Live):
                due = steps * (sent + 1) / (parts + 1)
                if one.kind == "preview" and sent < parts and one.data["step"] >= due:
                    partial = {"b64_json": one.data["png"], "partial_image_index": sent}
                    yield _event(f"{kind}.partial_image", partial)
                    sent += 1
                continue
            (picture,) = await _pictures(ask, [well(one)], "b64_json")
            details = {"image_tokens": 0, "text_tokens": 0}
            usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
            told = {**picture, "usage": {**usage, "input_tokens_details": details}}
            yield _event(f"{kind}.completed", told)
    except Problem as problem:
        yield error(problem)


def _event(kind: str, data: dict[str, Any]) -> str:
    told = {"type": kind, "created_at": int(time.time()), "background": "opaque", "size": "auto"}
    told |= {"output_format": "png", "quality": "auto", **data}
    return f"event: {kind}\ndata: {json.dumps(told, separators=(',', ':'))}\n\n"


def error(problem: Problem) -> str:
    """A refusal within a stream, in the form that OpenAI's clients raise."""
    told: dict[str, Any] = {"message": problem.detail, "type": problem.type, "code": problem.slug}
    told["job_id"] = problem.extra.get("job_id")
    return f"event: error\ndata: {json.dumps({'error': told})}\n\n"


ROUTES = (
    Row(
        method="POST", path="/v1/images/generations", handler=generations,
        says="Paint, by OpenAI's interface", takes=Images,
        headers=KEYED, gives=AnyShape, kinds=(STREAM,),
        statuses=(404, 409, 410, 504),
    ),
)  # fmt: skip
