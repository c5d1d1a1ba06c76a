"""OpenAI's own client, in strict validation, against the real application."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from diptych.service.api import reads
from tests.service.api.house import House, Worker, b64, house, png, slug

PNG = png(24, 16)
SEEN = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + b64(PNG)}}


@asynccontextmanager
async def clients(
    folder: Path, *, strict: bool = True, **options: Any
) -> AsyncIterator[tuple[House, openai.AsyncOpenAI]]:
    async with house(folder, **options) as at:
        client = openai.AsyncOpenAI(
            api_key="none",
            base_url="http://localhost:8188/v1",
            http_client=at.client,
            max_retries=0,
            _strict_response_validation=strict,
        )
        yield at, client


def specs(at: House) -> list[dict[str, Any]]:
    rows = at.state.database.read(lambda c: reads.listed(c, "local"))
    return [row.spec for row in reversed(rows)]


def test_images_with_a_seed_each(tmp_path: Path) -> None:
    async def run() -> None:
        async with clients(tmp_path) as (at, client):
            told = await client.images.generate(
                prompt="a cube", model="painter", n=3, size="64x32", response_format="b64_json",
                extra_body={"seed": 5},
            )  # fmt: skip
            assert told.data and len(told.data) == 3
            for i, one in enumerate(told.data):
                assert one.b64_json and base64.b64decode(one.b64_json) == png(64, 32, 5 + i)
            assert sorted(spec["seed"] for spec in specs(at)) == [5, 6, 7]
            told = await client.images.generate(prompt="a cube")
            assert told.data and told.data[0].url
            assert (await at.client.get(told.data[0].url)).content.startswith(b"\x89PNG")

    asyncio.run(run())


@pytest.mark.parametrize("parts", [0, 1, 3])
def test_images_in_parts(parts: int, tmp_path: Path) -> None:
    async def run() -> None:
        async with clients(tmp_path, worker=Worker(slow=0.005)) as (_, client):
            stream = await client.images.generate(
                prompt="a cube", stream=True, partial_images=parts, extra_body={"seed": 1}
            )
            events = [event async for event in stream]
            kinds = ["image_generation.partial_image"] * parts + ["image_generation.completed"]
            assert [event.type for event in events] == kinds
            partial = "image_generation.partial_image"
            indices = [e.partial_image_index for e in events if e.type == partial]
            assert indices == list(range(parts))
            assert base64.b64decode(events[-1].b64_json) == png(64, 64, 1)

    asyncio.run(run())


def test_a_stream_that_fails_raises(tmp_path: Path) -> None:
    async def run() -> None:
        async with clients(tmp_path, worker=Worker(fails="not-finite")) as (_, client):
            with pytest.raises(openai.APIError) as told:
                async for _ in await client.images.generate(prompt="a cube", stream=True):
                    pass
            assert told.value.code == "not-finite"

    asyncio.run(run())


def test_what_no_model_can_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        async with clients(tmp_path) as (at, client):
            with pytest.raises(openai.BadRequestError):
                await client.images.edit(image=PNG, prompt="a red cube", model="scenes")
            with pytest.raises(openai.UnprocessableEntityError):
                await client.images.generate(prompt="a cube", size="60x64")
            with pytest.raises(openai.UnprocessableEntityError):
                await client.images.generate(prompt="a cube", quality="hd")
            with pytest.raises(openai.NotFoundError):
                await client.images.generate(prompt="a cube", model="gpt-image-1")
            largest = {"seed": 2**63 - 1}
            with pytest.raises(openai.UnprocessableEntityError):
                await client.images.generate(prompt="a cube", n=2, extra_body=largest)
            assert at.number() == 0
            assert (await client.images.generate(prompt="a", extra_body=largest)).data

    asyncio.run(run())


def test_a_talk_about_a_picture(tmp_path: Path) -> None:
    async def run() -> None:
        async with clients(tmp_path) as (at, client):
            messages: Any = [
                {"role": "developer", "content": "Be short."},
                {"role": "user", "content": [{"type": "text", "text": "What is it?"}, SEEN]},
                {"role": "assistant", "content": "A cube."},
                {"role": "user", "content": [SEEN, {"type": "text", "text": "Which color?"}]},
            ]
            told = await client.chat.completions.create(
                model="reader", messages=messages, max_tokens=9
            )
            assert told.choices[0].message.content == "one red cube"
            assert told.choices[0].finish_reason == "stop"
            (spec,) = specs(at)
            (sha,) = spec["pictures"]
            assert at.state.artifacts.get(sha) is not None and spec["most"] == 9
            assert spec["turns"] == [
                {"role": "system", "text": "Be short.", "pictures": []},
                {"role": "user", "text": "What is it?", "pictures": [sha]},
                {"role": "assistant", "text": "A cube.", "pictures": []},
                {"role": "user", "text": "Which color?", "pictures": [sha]},
            ]

    asyncio.run(run())


def test_a_talk_in_pieces(tmp_path: Path) -> None:
    async def run() -> None:
        async with clients(tmp_path, worker=Worker(slow=0.01)) as (_, client):
            stream = await client.chat.completions.create(
                model="reader", messages=[{"role": "user", "content": "Hello"}], stream=True,
                stream_options={"include_usage": True},
            )  # fmt: skip
            chunks = [chunk async for chunk in stream]
            deltas = [c.choices[0].delta.content or "" for c in chunks if c.choices]
            assert "".join(deltas) == "one red cube" and len(list(filter(None, deltas))) == 3
            assert chunks[-2].choices[0].finish_reason == "stop" and chunks[-1].usage

    asyncio.run(run())


def test_a_talk_that_was_cached_or_missed_comes_whole(tmp_path: Path) -> None:
    """The pieces were told before anybody listened."""

    async def run() -> None:
        async with clients(tmp_path) as (at, client):
            publish = at.state.hub.publish

            def lost(said: Any) -> None:
                if getattr(said, "kind", "") != "text":
                    publish(said)

            object.__setattr__(at.state.hub, "publish", lost)
            stream = await client.chat.completions.create(
                model="reader", messages=[{"role": "user", "content": "Hello"}], stream=True
            )
            deltas = [c.choices[0].delta.content or "" async for c in stream if c.choices]
            assert "".join(deltas) == "one red cube"

    asyncio.run(run())


def user(*content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(content)}], **more}


TEXT = {"type": "text", "text": "a"}
FILE = {"type": "image_url", "image_url": {"url": "file:///a"}}
BAD_TALKS: list[tuple[str, dict[str, Any], int, str]] = [
    ("no turn", {"messages": []}, 422, "bad-field"),
    ("of no use", {"messages": [{"role": "assistant", "content": [SEEN]}]}, 422, "bad-field"),
    ("12 too many pictures", user(*[SEEN] * 9), 422, "over-limit"),
    ("26 a file", user(FILE), 422, "bad-url"),
    ("9 no words", user({"type": "text", "text": ""}), 422, "empty-text"),
    ("tools", user(TEXT, tools=[]), 422, "bad-field"),
    ("too many tokens", user(TEXT, max_tokens=2000), 422, "bad-field"),
    ("a model that paints", user(TEXT, model="painter"), 404, "unknown-name"),
]


@pytest.mark.parametrize(
    ("asked", "status", "kind"), [row[1:] for row in BAD_TALKS], ids=[row[0] for row in BAD_TALKS]
)
def test_bad_talks(asked: dict[str, Any], status: int, kind: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            answer = await at.client.post("/v1/chat/completions", json=asked)
            assert (answer.status_code, slug(answer)) == (status, kind)
            assert at.number() == 0

    asyncio.run(run())


def test_a_form_is_no_talk(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as at:
            answer = await at.client.post("/v1/chat/completions", files={"image": PNG})
            assert (answer.status_code, slug(answer)) == (415, "unsupported-media-type")

    asyncio.run(run())


def test_embeddings(tmp_path: Path) -> None:
    async def run() -> None:
        async with clients(tmp_path, strict=False) as (at, client):
            # The client asks for base64 unless told otherwise, decodes it itself, and holds it
            # against its own schema of numbers where it is strict.
            told = await client.embeddings.create(
                model="clip", input=["a", "b"], extra_body={"images": [b64(PNG)]}
            )
            assert [one.embedding for one in told.data] == [[0.5, -0.25, i] for i in range(3)]
            raw = {"input": "a", "encoding_format": "base64"}
            answer = (await at.client.post("/v1/embeddings", json=raw)).json()
            packed = base64.b64decode(answer["data"][0]["embedding"])
            assert packed == struct.pack("<3f", 0.5, -0.25, 0)
            for bad in ({}, {"input": []}, {"input": [1]}, {"input": ""}, {"input": ["a"] * 65}):
                answer = await at.client.post("/v1/embeddings", json=bad)
                assert answer.status_code == 422, bad

    asyncio.run(run())


def test_embeddings_as_numbers(tmp_path: Path) -> None:
    async def run() -> None:
        async with clients(tmp_path) as (_, client):
            told = await client.embeddings.create(model="clip", input="a", encoding_format="float")
            assert told.data[0].embedding == [0.5, -0.25, 0]

    asyncio.run(run())


def test_models(tmp_path: Path) -> None:
    async def run() -> None:
        async with clients(tmp_path) as (_, client):
            found = [model.id async for model in client.models.list()]
            assert found == ["painter", "scenes", "reader", "clip"]
            one: Any = await client.models.retrieve("scenes")
            assert one.words == ["a", "red", "cube", "left", "of"] and one.does == "paint"
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve("other")

    asyncio.run(run())
