"""Bad inputs 1, 14 and ruling 20: bodies, hosts, origins, kinds of content, as layers around an
application."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from diptych.service.guards.body_cap import BodyCap, Caps
from diptych.service.guards.chain import guarded
from diptych.service.guards.hosts import HostGate, allowed_hosts
from diptych.service.guards.media import HEADERS, ContentGate, acceptable
from diptych.service.guards.problem import Problem, Receive, Scope, Send
from tests.service.guards.asgi import HOST, Answer, asked

JSON = ("content-type", "application/json")
CAPS = Caps(plain=100, upload=1000, idle=0.2, whole=0.5, uploads=frozenset({"/v1/images"}))


async def counting(scope: Scope, receive: Receive, send: Send) -> None:
    """Says how long the body was."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


async def swallowing(scope: Scope, receive: Receive, send: Send) -> None:
    """Makes of whatever happens while it reads an error of its own, as FastAPI does."""
    try:
        await Request(scope, receive).body()
    except Exception:
        await PlainTextResponse("parsing failed", 400)(scope, receive, send)
        return
    await PlainTextResponse("ok")(scope, receive, send)


def ask(app: object, *more: object, **options: object) -> Answer:
    return asyncio.run(asked(app, *more, **options))  # type: ignore[arg-type]


def declared(*lengths: str) -> list[tuple[str, str]]:
    return [HOST, *(("content-length", length) for length in lengths)]


CUT = [
    ("1 declared", declared("101"), [b""], 413, "too-large"),
    ("1 declared in many digits", declared("9" * 5000), [b""], 413, "too-large"),
    ("1 counted", [HOST], [b"x" * 60, b"x" * 41], 413, "too-large"),
    ("1 counted above the declared", declared("5"), [b"x" * 101], 413, "too-large"),
    ("1 counted in small parts", [HOST], [b"x"] * 101, 413, "too-large"),
    ("1 no length", declared("-1"), [b""], 400, "malformed-request"),
    ("1 two lengths", declared("1", "2"), [b""], 400, "malformed-request"),
    ("33 a pause", [HOST], [b"x", 0.4, b"y"], 408, "read-timeout"),
    ("33 drop by drop", [HOST], [b"x", 0.15] * 5 + [b"y"], 408, "read-timeout"),
]


@pytest.mark.parametrize("app", [counting, swallowing])
@pytest.mark.parametrize(
    ("headers", "parts", "status", "slug"), [c[1:] for c in CUT], ids=[c[0] for c in CUT]
)
def test_1_a_body_is_cut_whatever_the_application_makes_of_it(
    app: object, headers: list[tuple[str, str]], parts: list[bytes], status: int, slug: str
):
    answer = ask(BodyCap(app, CAPS), headers=headers, parts=parts)
    assert (answer.status, answer.slug) == (status, slug)
    assert answer.headers["connection"] == "close"


def test_a_body_at_the_cap_comes_through_and_uploads_have_their_own():
    layer = BodyCap(counting, CAPS)
    assert ask(layer, headers=declared("0100"), parts=[b"x" * 50] * 2).body == b"100"
    assert ask(layer, path="/v1/images", parts=[b"x" * 1000]).body == b"1000"
    assert ask(layer, path="/v1/images", parts=[b"x" * 1001]).status == 413
    assert ask(layer, path="/v1/images/", parts=[b"x" * 101]).status == 413


def test_waiting_for_the_client_to_leave_has_no_deadline():
    async def stays(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()
        assert (await receive())["type"] == "http.disconnect"
        await PlainTextResponse("left")(scope, receive, send)

    async def run() -> bytes:
        async def late(scope: Scope, receive: Receive, send: Send) -> None:
            async def slowly() -> dict[str, object]:
                message = dict(await receive())
                if message["type"] == "http.disconnect":
                    await asyncio.sleep(0.6)
                return message

            await BodyCap(stays, CAPS)(scope, slowly, send)

        return (await asked(late)).body

    assert asyncio.run(run()) == b"left"


def test_an_error_of_the_application_stays_its_own():
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        ask(BodyCap(failing, CAPS))


# Hosts and origins

HOSTS = allowed_hosts("studio.lan", "https://paint.example.org/app", ["Other.Test."])


def gate(public_url: str = "") -> HostGate:
    return HostGate(counting, HOSTS, public_url)


def test_hosts_are_loopback_and_what_the_operator_names():
    assert {
        "localhost",
        "127.0.0.1",
        "::1",
        "studio.lan",
        "paint.example.org",
        "other.test",
    } == HOSTS
    assert allowed_hosts("0.0.0.0") == allowed_hosts("::") == allowed_hosts("*") == allowed_hosts()


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:81", "127.0.0.1:8", "[::1]:8", "other.test."]
)
def test_a_known_host_is_answered(host: str):
    assert ask(gate(), headers=[("host", host)]).status == 200


STRANGE = [
    "evil.test",
    "localhost.evil.test",
    "evil.test:localhost",
    "",
    "localhost/x",
    "x@localhost",
]
STRANGE += [
    "127.0.0.1.nip.io",
    "localhost:x",
    "lócalhost",
    "localhost#",
    "0.0.0.0",
    "[::1",
    "127.0.0.2",
]


@pytest.mark.parametrize("host", STRANGE)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_20_an_unknown_host_is_421(host: str, method: str):
    answer = ask(gate(), method, headers=[("host", host)])
    assert (answer.status, answer.slug) == (421, "misdirected")


def test_20_no_host_and_two_are_421():
    assert ask(gate(), headers=[]).status == 421
    assert ask(gate(), headers=[HOST, HOST]).status == 421


FOREIGN = [
    [("origin", "http://evil.test")],
    [("origin", "null")],
    [("origin", "http://localhost:3000")],
    [("origin", "http://localhost")],
    [("origin", "file://localhost:8000")],
    [("origin", "http://localhost:8000/")],
    [("origin", "http://localhost:8000"), ("origin", "http://evil.test")],
    [("sec-fetch-site", "cross-site")],
    [("sec-fetch-site", "same-site")],
    [("sec-fetch-site", "cross-site"), ("origin", "http://localhost:8000")],
    [("sec-fetch-site", "same-origin"), ("origin", "http://evil.test")],
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_20_a_foreign_page_changes_nothing_and_may_follow_a_link(headers: list[tuple[str, str]]):
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = ask(gate(), method, headers=[HOST, *headers])
        assert (answer.status, answer.slug) == (403, "foreign-origin")
    assert ask(gate(), "GET", headers=[HOST, *headers]).status == 200
    socket = ask(gate(), "GET", headers=[HOST, *headers], kind="websocket")
    assert socket.status == 1008


OURS = [
    [],
    [("origin", "http://localhost:8000")],
    [("sec-fetch-site", "same-origin"), ("origin", "http://localhost:8000")],
    [("sec-fetch-site", "none")],
]


@pytest.mark.parametrize("headers", OURS)
def test_our_own_page_and_programs_may(headers: list[tuple[str, str]]):
    assert ask(gate(), headers=[HOST, *headers]).status == 200


def test_the_public_origin_is_ours_behind_a_proxy():
    headers = [HOST, ("origin", "https://paint.example.org")]
    assert ask(gate("https://paint.example.org/app"), headers=headers).status == 200
    assert ask(gate(), headers=headers).status == 403


# 14

WRONG = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
WRONG += [
    "application/json; charset=utf-16",
    "application/jsonp",
    "text/json",
    "application/json, x",
]


@pytest.mark.parametrize("kind", WRONG)
def test_14_json_comes_as_json_alone(kind: str):
    layer = ContentGate(counting, frozenset({"/v1/images"}))
    for size in (("content-length", "2"), ("transfer-encoding", "chunked")):
        answer = ask(layer, headers=[("content-type", kind), size], parts=[b"{}"])
        assert (answer.status, answer.slug) == (415, "unsupported-media-type")
    assert ask(layer, headers=[("content-length", "2")], parts=[b"{}"]).status == 415
    assert ask(layer, headers=[JSON, JSON, ("content-length", "2")], parts=[b"{}"]).status == 415


def test_14_json_forms_on_their_paths_and_no_body_pass():
    layer = ContentGate(counting, frozenset({"/v1/images"}))
    for kind in ("application/json", "Application/JSON ; charset=UTF-8"):
        sent = [("content-type", kind), ("content-length", "2")]
        assert ask(layer, headers=sent, parts=[b"{}"]).status == 200
    sent = [("content-type", "multipart/form-data; boundary=x"), ("content-length", "2")]
    assert ask(layer, path="/v1/images", headers=sent, parts=[b"{}"]).status == 200
    assert ask(layer, headers=[("content-length", "0")]).status == 200
    assert ask(layer, "GET", headers=[("content-type", "text/plain")]).status == 200


OFFERED = ("application/json", "image/png")
ACCEPT = [("", 0), ("*/*", 0), ("image/*", 1), ("image/png, application/json;q=0.5", 1)]
ACCEPT += [
    ("*/*, application/json;q=0", 1),
    ("text/html, */*;q=0.1", 0),
    ("IMAGE/PNG;v=1;q=1.0", 1),
]


@pytest.mark.parametrize(("accept", "place"), ACCEPT)
def test_14_the_kind_that_is_liked_best(accept: str, place: int):
    assert acceptable(accept, OFFERED) == OFFERED[place]


@pytest.mark.parametrize("accept", ["text/html", "*/*;q=0", "image/png;q=x", "audio/*"])
def test_14_no_kind_that_is_liked_is_406(accept: str):
    with pytest.raises(Problem) as caught:
        acceptable(accept, OFFERED)
    assert caught.value.status == 406


# All of them


def test_every_answer_has_the_headers_and_the_applications_own_stay():
    async def own(scope: Scope, receive: Receive, send: Send) -> None:
        policy = {"Content-Security-Policy": "sandbox"}
        await PlainTextResponse("x", headers=policy)(scope, receive, send)

    app = guarded(counting, hosts=HOSTS, caps=CAPS)
    for answer in (ask(app, "GET"), ask(app, headers=[]), ask(app, headers=declared("1000"))):
        assert HEADERS.items() <= answer.headers.items()
    assert "frame-ancestors 'none'" in HEADERS["content-security-policy"]
    assert "unsafe" not in HEADERS["content-security-policy"]
    kept = ask(guarded(own, hosts=HOSTS), "GET").headers
    assert kept["content-security-policy"] == "sandbox" and kept["x-frame-options"] == "DENY"


def test_a_request_has_one_id_in_all_layers():
    seen = []

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        from diptych.service.guards.problem import request_id

        seen.extend([request_id(scope), request_id(scope)])
        await PlainTextResponse("x")(scope, receive, send)

    ask(guarded(noting, hosts=HOSTS), "GET")
    ask(guarded(noting, hosts=HOSTS), "GET")
    assert seen[0] == seen[1] != seen[2] == seen[3]


def test_the_guards_know_no_torch():
    names = "body_cap chain egress fields header_deadline hosts json_gate keys media moderation"
    names += " multipart picture_child picture_header pictures problem rates signing words"
    lines = [f"import diptych.service.guards.{name}" for name in names.split()]
    lines += ["import sys", "assert 'torch' not in sys.modules"]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
