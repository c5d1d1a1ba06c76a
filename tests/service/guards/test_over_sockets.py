"""Bad inputs 1 and 33 over real sockets: uvicorn with the layers around an application."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable

import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from diptych.service.guards.body_cap import Caps
from diptych.service.guards.chain import guarded
from diptych.service.guards.header_deadline import with_deadline
from diptych.service.guards.hosts import allowed_hosts

HEAD = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


class Asked(BaseModel):
    prompt: str


def application() -> FastAPI:
    app = FastAPI()

    @app.post("/jobs")
    async def jobs(asked: Asked) -> dict[str, int]:
        return {"length": len(asked.prompt)}

    return app


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]


def talk(with_server: Talk) -> tuple[bytes, float]:
    """What a client of our server hears until the connection ends, and after how many seconds."""

    async def run() -> tuple[bytes, float]:
        caps = Caps(plain=1 << 20, idle=0.3, whole=2.0)
        app = guarded(application(), hosts=allowed_hosts(), caps=caps)
        config = uvicorn.Config(app, http=with_deadline(0.4), lifespan="off", log_level="critical")
        server = uvicorn.Server(config)
        listening = socket.create_server(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        begun = time.monotonic()
        try:
            async with asyncio.timeout(5):
                return await with_server(reader, writer), time.monotonic() - begun
        finally:
            writer.close()
            server.should_exit = True
            await serving

    return asyncio.run(run())


def sending(*parts: bytes | float) -> Talk:
    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        for part in parts:
            if isinstance(part, float):
                await asyncio.sleep(part)
            else:
                writer.write(part)
        try:
            return await reader.read()
        except ConnectionError:  # it was closed while we wrote
            return b""

    return run


def body_of(answer: bytes) -> dict[str, object]:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def test_a_good_request_is_answered_also_a_second_one_later():
    one = HEAD + b'Content-Length: 16\r\n\r\n{"prompt":"cat"}'
    last = HEAD + b'Connection: close\r\nContent-Length: 16\r\n\r\n{"prompt":"cat"}'
    answer, _ = talk(sending(one[:50], 0.2, one[50:], 0.7, last))
    assert answer.count(b"200 OK") == 2


def test_1_a_declared_length_is_refused_before_the_body_is_sent():
    answer, seconds = talk(sending(HEAD + b"Content-Length: 60000000\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 413") and b"connection: close" in answer
    assert body_of(answer)["type"] == "/problems/too-large" and seconds < 0.3


def test_1_a_chunked_body_is_counted_and_fastapi_does_not_turn_it_into_a_400():
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer, _ = talk(sending(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 17))
    assert answer.startswith(b"HTTP/1.1 413") and body_of(answer)["type"] == "/problems/too-large"


SLOW = {
    "half a header": (HEAD,),
    "nothing": (),
    "a header drop by drop": (HEAD, *(x for i in range(9) for x in (0.1, b"X-%d: 1\r\n" % i))),
    "half a second header": (HEAD + b"Content-Length: 2\r\n\r\n{}", 0.1, HEAD),
}


@pytest.mark.parametrize("name", SLOW)
def test_33_who_does_not_end_a_header_is_left(name: str):
    answer, seconds = talk(sending(*SLOW[name]))
    assert seconds < 1.3 and answer.count(b"HTTP/1.1") == (name == "half a second header")


def test_33_who_does_not_end_a_body_is_told_so():
    answer, seconds = talk(sending(HEAD + b'Content-Length: 16\r\n\r\n{"pro'))
    assert answer.startswith(b"HTTP/1.1 408") and b"connection: close" in answer
    assert 0.25 < seconds < 1.0
