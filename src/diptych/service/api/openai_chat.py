"""POST /v1/chat/completions: OpenAI's interface to reading and talking about pictures."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response, StreamingResponse

from diptych.service.api.admitting import admitted_one, prompt_of
from diptych.service.api.asking import KEYED, Ask, Row, said
from diptych.service.api.events import HEADERS, STREAM
from diptych.service.api.hub import Live
from diptych.service.api.models import model_of
from diptych.service.api.openai_images import error
from diptych.service.api.shapes import AnyShape
from diptych.service.api.sources import from_url
from diptych.service.api.waiting import ended, following, well
from diptych.service.guards.fields import LARGEST_SEED, Seed, Strict
from diptych.service.guards.problem import Problem
from diptych.service.jobs import accepting
from diptych.service.jobs.accepting import Wanted
from diptych.service.jobs.store import Stored

MOST_TURNS = 64
MOST_PICTURES = 8
MOST_TOKENS = 1024
_USUAL_TOKENS = 256


class Text(Strict):
    type: Literal["text"]
    text: str


class Address(Strict):
    url: str
    detail: Literal["auto", "low", "high"] | None = None


class Picture(Strict):
    type: Literal["image_url"]
    image_url: Address


Part = Annotated[Text | Picture, Field(discriminator="type")]
Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]


class Message(Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Part], Field(min_length=1, max_length=32)]


class StreamOptions(Strict):
    include_usage: bool | None = None


class Chat(Strict):
    """OpenAI's fields, of the values that are offered here. `user` is taken and not kept."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_TURNS)]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    seed: Seed | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    user: Annotated[str, Field(max_length=256)] | None = None


async def completions(ask: Ask) -> Response:
    """An answer at once, or piece by piece."""
    asked = await ask.body(Chat)
    info = model_of(ask, asked.model, "read")
    if not info.chats:
        _check_single(asked, info.name)
    for i, message in enumerate(asked.messages):
        _check_texts(ask, message, f"/messages/{i}/content")
    turns, stored = await _turns(ask, asked)
    seed = asked.seed if asked.seed is not None else secrets.randbelow(LARGEST_SEED + 1)
    spec = {
        "kind": "chat", "model": info.name, "pictures": [one.sha256 for one in stored],
        "turns": turns, "temperature": float(asked.temperature or 0.0), "seed": seed,
        "most": asked.max_completion_tokens or asked.max_tokens or _USUAL_TOKENS,
    }  # fmt: skip
    wanted = Wanted(
        kind="chat", spec=spec, cost=ask.state.engine.price(spec), rank=accepting.INTERACTIVE,
        inputs=tuple(stored),
    )  # fmt: skip
    ticket = await admitted_one(ask, wanted, {**spec, "seed": asked.seed})
    head = {"id": f"chatcmpl-{ticket.job_id}", "created": int(time.time()), "model": info.name}
    if asked.stream:
        usage = bool(asked.stream_options and asked.stream_options.include_usage)
        stream = _stream(ask, ticket.job_id, head, usage=usage)
        return StreamingResponse(stream, headers=HEADERS, media_type=STREAM)
    result = (await ended(ask, ticket.job_id)).result
    message = {"role": "assistant", "content": result["text"], "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(result)}
    told = {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(result)}
    return said(told)


def _check_single(asked: Chat, name: str) -> None:
    """A model that holds no conversation is asked one question about one picture."""
    parts = [] if isinstance(asked.messages[0].content, str) else asked.messages[0].content
    pictures = sum(isinstance(part, Picture) for part in parts)
    if len(asked.messages) == 1 and asked.messages[0].role == "user" and pictures == 1:
        return
    detail = f"{name} answers single questions: send one user message with one picture."
    raise Problem("bad-field", detail=detail, field="/messages")


def _check_texts(ask: Ask, message: Message, field: str) -> None:
    if isinstance(message.content, str):
        if not message.content:
            raise Problem("empty-text", detail="Write something.", field=field)
        prompt_of(ask, message.content, field)
        return
    for i, part in enumerate(message.content):
        if isinstance(part, Text):
            if not part.text:
                raise Problem("empty-text", detail="Write something.", field=f"{field}/{i}/text")
            prompt_of(ask, part.text, f"{field}/{i}/text")


async def _turns(ask: Ask, asked: Chat) -> tuple[list[dict[str, Any]], list[Stored]]:
    """The turns with the SHA-256 of their pictures, and all pictures, each once."""
    _check_pictures(asked)
    turns: list[dict[str, Any]] = []
    stored: dict[str, Stored] = {}
    for i, message in enumerate(asked.messages):
        parts = [message.content] if isinstance(message.content, str) else message.content
        texts, pictures = [], []
        for j, part in enumerate(parts):
            if isinstance(part, Picture):
                field = f"/messages/{i}/content/{j}/image_url/url"
                one = (await from_url(ask, part.image_url.url, field)).stored
                stored[one.sha256] = one
                pictures.append(one.sha256)
            else:
                texts.append(part if isinstance(part, str) else part.text)
        role = "system" if message.role == "developer" else message.role
        turns.append({"role": role, "text": "\n".join(texts), "pictures": pictures})
    return turns, list(stored.values())


def _check_pictures(asked: Chat) -> None:
    """Before any is decoded."""
    pictures = [
        (message.role, f"/messages/{i}/content/{j}")
        for i, message in enumerate(asked.messages)
        if not isinstance(message.content, str)
        for j, part in enumerate(message.content)
        if isinstance(part, Picture)
    ]
    for role, field in pictures:
        if role != "user":
            raise Problem("bad-field", detail="Pictures come from the user.", field=field)
    if len(pictures) > MOST_PICTURES:
        detail = f"Send up to {MOST_PICTURES} pictures."
        raise Problem("over-limit", detail=detail, field=pictures[MOST_PICTURES][1])


async def _stream(
    ask: Ask, job_id: str, head: Mapping[str, Any], *, usage: bool
) -> AsyncIterator[str]:
    """Pieces as they come; what was missed of them follows at the end."""
    sent = ""
    yield _chunk(head, {"role": "assistant", "content": ""})
    try:
        async for one in following(ask, job_id):
            if isinstance(one, Live):
                if one.kind == "text":
                    sent += one.data["text"]
                    yield _chunk(head, {"content": one.data["text"]})
                continue
            result = well(one).result
            if result["text"].startswith(sent) and (rest := result["text"][len(sent) :]):
                yield _chunk(head, {"content": rest})
            yield _chunk(head, {}, _finish(result))
            if usage:
                yield _data({**head, "object": _CHUNK, "choices": [], "usage": _usage(result)})
    except Problem as problem:
        yield error(problem)
        return
    yield "data: [DONE]\n\n"


_CHUNK = "chat.completion.chunk"


def _chunk(head: Mapping[str, Any], delta: Mapping[str, Any], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _data({**head, "object": _CHUNK, "choices": [choice]})


def _data(told: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(told, separators=(',', ':'))}\n\n"


def _finish(result: Mapping[str, Any]) -> str:
    """`length` where the worker says that the answer was cut."""
    return "length" if result.get("cut") else "stop"


def _usage(result: Mapping[str, Any]) -> dict[str, int]:
    """Tokens, where the worker counted them."""
    read, wrote = int(result.get("tokens_read", 0)), int(result.get("tokens_written", 0))
    return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}


ROUTES = (
    Row(
        method="POST", path="/v1/chat/completions", handler=completions,
        says="Talk about pictures, by OpenAI's interface", takes=Chat,
        headers=KEYED, gives=AnyShape,
        kinds=(STREAM,), large=True, statuses=(404, 409, 410, 502, 504),
    ),
)  # fmt: skip
