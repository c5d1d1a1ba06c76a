"""Bad inputs 26 to 32: what is fetched, from where, how long and how much; with real sockets."""

from __future__ import annotations

import asyncio
import gzip
import resource
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from diptych.service.guards.egress import Bounds, fetched, is_public
from diptych.service.guards.problem import Problem

Handler = Callable[[str, asyncio.StreamWriter], Awaitable[None]]
HOME = "127.0.0.1"


@asynccontextmanager
async def server(handler: Handler, host: str = HOME):
    """A server of ours; gives its port and the paths that were asked for."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            asked.append(head.split()[1].decode())
            await handler(asked[-1], writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    running = await asyncio.start_server(serve, host, 0)
    try:
        yield running.sockets[0].getsockname()[1], asked
    finally:
        running.close()


def reply(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    fields = {"content-length": str(len(body))} | {
        k.replace("_", "-"): v for k, v in headers.items()
    }
    lines = [f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in fields.items() if v), "", ""]
    return "\r\n".join(lines).encode() + body


def problem_of(url: str, **options: object) -> Problem:
    with pytest.raises(Problem) as caught:
        asyncio.run(fetched(url, **options))
    return caught.value


def through(handler: Handler, path: str = "/", bounds: Bounds | None = None):
    """What a fetch from our server brings (bytes or Problem), and what the server was asked."""

    async def run():
        async with server(handler) as (port, asked):
            try:
                got = await fetched(
                    f"http://{HOME}:{port}{path}", bounds=bounds, allow={(HOME, port)}
                )
            except Problem as problem:
                got = problem
            return got, asked

    return asyncio.run(run())


URLS = [
    "file:///etc/passwd",
    "ftp://example.org/a",
    "gopher://example.org/",
    "data:image/png;base64,AA",
]
URLS += ["//example.org/a", "/a", "", "http://", "http:///a", "javascript:1", "unix:/run/x"]
URLS += ["http://user:word@example.org/", "http://exa mple.org/", "http://example.org/\r\nX: 1"]
URLS += ["http://[::1/", "http://example.org:99999/", "http://a/" + "b" * 2048, "http://a:0/"]


@pytest.mark.parametrize("url", URLS)
def test_26_only_http_and_https(url: str):
    problem = problem_of(url)
    assert (problem.status, problem.slug) == (422, "bad-url")


# The port is served, so that only the check stands between the request and a server.
PLACES = ["http://127.0.0.1:{}/", "http://localhost:{}/", "http://127.1:{}/", "http://0:{}/"]
PLACES += [
    "http://2130706433:{}/",
    "http://0177.0.0.1:{}/",
    "http://0x7f.1:{}/",
    "http://127.9.9.9:{}/",
]
PLACES += ["http://１２７.０.０.１:{}/", "http://127。0。0。1:{}/", "http://[::ffff:127.0.0.1]:{}/"]
PLACES += ["http://[::1]:{}/", "http://[::]:{}/", "http://[0:0:0:0:0:ffff:7f00:1]:{}/"]


@pytest.mark.parametrize("place", PLACES)
def test_27_and_28_no_spelling_reaches_loopback(place: str):
    async def run():
        async def hello(_: str, writer: asyncio.StreamWriter) -> None:
            writer.write(reply(b"secret"))

        async with server(hello, "0.0.0.0") as (port, asked):
            with pytest.raises(Problem) as caught:
                await fetched(place.format(port))
            return caught.value, asked

    problem, asked = asyncio.run(run())
    assert (problem.status, problem.slug, asked) == (403, "blocked-address", [])


PRIVATE = [
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.0.1/",
    "http://169.254.169.254/",
]
PRIVATE += ["http://100.64.0.1/", "http://224.0.0.1/", "http://0.0.0.0/", "http://255.255.255.255/"]
PRIVATE += [
    "http://168.63.129.16/",
    "http://127.0.0.1/",
    "https://[fd00:ec2::254]/",
    "http://[fe80::1]/",
]
PRIVATE += ["http://93.184.216.34:22/", "http://93.184.216.34:8080/", "http://nowhere.invalid/"]


def test_27_one_text_for_all_refusals():
    said = {str(problem_of(url).body("r")) for url in PRIVATE}
    assert len(said) == 1 and "blocked-address" in said.pop()


EMBEDDED = [
    "2002:7f00:1::",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
]
EMBEDDED += [
    "::ffff:0:127.0.0.1",
    "fec0::1",
    "2001:0:4136:e378::1",
    "ff02::1",
    "ff0e::1",
    "::",
    "::1",
]
EMBEDDED += ["192.0.0.8", "192.88.99.1", "198.18.0.1", "240.0.0.1", "fe80::1%eth0", "2001:db8::1"]


@pytest.mark.parametrize("address", EMBEDDED)
def test_31_ipv4_within_ipv6_and_their_like_are_not_public(address: str):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "::ffff:93.184.216.34"])
def test_public_addresses_are(address: str):
    assert is_public(address)


def test_a_picture_comes_through_also_over_three_redirects_and_gzip():
    async def hops(path: str, writer: asyncio.StreamWriter) -> None:
        left = int(path[1:])
        if left:
            writer.write(reply(status="302 Found", location=f"/{left - 1}"))
        else:
            writer.write(reply(gzip.compress(b"picture"), content_encoding="gzip"))

    assert through(hops, "/3") == (b"picture", ["/3", "/2", "/1", "/0"])
    problem, asked = through(hops, "/4")
    assert (problem.status, problem.slug, asked) == (502, "fetch-failed", ["/4", "/3", "/2", "/1"])


ONWARD = [
    "http://127.0.0.1:1/",
    "http://127.0.0.2:{}/",
    "http://169.254.169.254/latest/",
    "//[::1]:{}/",
]
ONWARD += ["http://0x7f.1:1/", "http://localhost:1/"]


@pytest.mark.parametrize("onward", ONWARD)
def test_29_each_redirect_is_checked_anew(onward: str):
    async def send_on(path: str, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("sockname")[1]
        writer.write(reply(status="301 Moved", location=onward.format(port)))

    problem, asked = through(send_on)
    assert (problem.status, problem.slug, asked) == (403, "blocked-address", ["/"])


def test_29_a_redirect_to_a_file_is_no_url_of_ours():
    async def send_on(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(status="302 Found", location="file:///etc/passwd"))

    assert through(send_on)[0].slug == "bad-url"


def test_30_the_address_checked_is_the_address_connected(monkeypatch: pytest.MonkeyPatch):
    """A name server that says something else at each question: public first, then loopback."""
    answers = iter(["93.184.216.34", HOME, HOME, HOME])
    resolved, connected = [], []
    real = socket.getaddrinfo

    def rebinding(host: object, port: object, *rest: object, **more: object):
        if host != "rebind.test":
            return real(host, port, *rest, **more)  # type: ignore[arg-type]
        resolved.append(next(answers))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (resolved[-1], port))]

    async def no_network(self: object, sock: socket.socket, address: tuple[str, int]) -> None:
        connected.append(address[0])
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    loop = asyncio.selector_events.BaseSelectorEventLoop
    monkeypatch.setattr(loop, "sock_connect", no_network)
    assert problem_of("http://rebind.test/").slug == "fetch-failed"
    assert problem_of("http://rebind.test/").slug == "blocked-address"
    assert (resolved, connected) == (["93.184.216.34", HOME], ["93.184.216.34"])


async def slow(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(content_length="1000"))
    for _ in range(50):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.1)


async def silent(_: str, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(5)


async def endless(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await writer.drain()


async def endless_headers(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x: " + b"y" * 1000 + b"\r\n")
        await writer.drain()


async def lying_short(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(b"four", content_length="400"))


async def lying_huge(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(b"four", content_length=str(1 << 40)))


async def broken_gzip(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(b"not gzip at all", content_encoding="gzip"))


async def error(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(b"secret", status="500 Oh"))


async def nothing(_: str, writer: asyncio.StreamWriter) -> None:
    return


BOMB = gzip.compress(bytes(200 << 20), compresslevel=1)


async def gzip_bomb(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(BOMB, content_encoding="gzip"))


FAULTY = [
    slow,
    silent,
    endless,
    endless_headers,
    lying_short,
    lying_huge,
    broken_gzip,
    error,
    nothing,
]


@pytest.mark.parametrize("handler", [*FAULTY, gzip_bomb], ids=lambda h: h.__name__)
def test_32_a_bad_server_costs_little_time_and_memory(handler: Handler):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    problem, _ = through(handler, bounds=Bounds(most_bytes=1 << 20, seconds=0.5))
    assert (problem.status, problem.slug) == (502, "fetch-failed")
    assert time.monotonic() - begun < 1.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 << 10  # KiB


def test_32_the_deadline_is_one_for_all_hops():
    async def slow_hops(path: str, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        writer.write(reply(status="302 Found", location="/a"))

    begun = time.monotonic()
    problem, asked = through(slow_hops, bounds=Bounds(seconds=0.5))
    assert problem.slug == "fetch-failed" and len(asked) == 2 and time.monotonic() - begun < 0.9


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", f"http://{HOME}:1/")

    async def hello(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(b"direct"))

    assert through(hello)[0] == b"direct"
