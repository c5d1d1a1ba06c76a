"""Pictures that mean harm leave no memory behind, however many come."""

from __future__ import annotations

import http.client
import io
import random
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from PIL import Image

from diptych.service.child import children, free_port

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
# A server whose rates let a test through; all else is as `diptych serve` has it.
SERVER = """
import sys
from pathlib import Path
from diptych.service.registry import SHIPPED
from diptych.service.api.settings import Settings
from diptych.service.server import ServerSettings, serve
from diptych.service.supervisor import EngineSettings
data, many = Path(sys.argv[1]), "1000000/minute"
web = Settings(data=data, port=int(sys.argv[2]), per_user=many, per_address=many)
engine = EngineSettings(data=data, models={"scenes-i2t": SHIPPED["scenes-i2t"]})
serve(ServerSettings(settings=web, engine=engine))
"""
MOST_GROWTH = 8 << 20


@contextmanager
def hosted(data: Path) -> Iterator[tuple[int, int]]:
    """The process id of the server, and its port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(data), str(port)])
    try:
        until = time.monotonic() + 60
        while sent(port, b"{}", "application/json") in (0, 503) and time.monotonic() < until:
            assert process.poll() is None, "the server did not start"
            time.sleep(0.2)
        yield process.pid, port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(45)
        finally:
            process.kill()
            process.wait()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(side: int) -> bytes:
    """A PNG of few bytes that claims, and has, very many pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    pixels = zlib.compress(bytes(2_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def hostile(rng: random.Random, number: int) -> bytes:
    """The bytes of an upload, of one kind after the other."""
    whole = io.BytesIO()
    Image.effect_noise((96, 96), 80).save(whole, "png")
    png = whole.getvalue()
    kinds = (
        bomb(40_000),  # over the limit of pixels
        bomb(4_000),  # under it, but the pixels are not there
        png[: rng.randrange(40, len(png))],
        png[:60] + rng.randbytes(len(png) - 60),
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        rng.randbytes(1_000_000),
        b"",
    )
    return kinds[number % len(kinds)]


def form(picture: bytes) -> tuple[bytes, str]:
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
    return head + b"Content-Type: image/png\r\n\r\n" + picture + b"\r\n--b--\r\n", (
        "multipart/form-data; boundary=b"
    )


def sent(port: int, body: bytes, kind: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/v1/caption", body, {"Content-Type": kind})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def cut_off(port: int) -> None:
    """Half a request, and gone."""
    with socket.create_connection(("127.0.0.1", port)) as made:
        made.sendall(
            b"POST /v1/caption HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500000\r\n"
            b"Content-Type: image/png\r\n\r\n" + bytes(50_000)
        )


def resident(pid: int) -> int:
    """Bytes of a process and all below it, what they share counted once (PSS). Those that decode
    are left out: they are replaced all the time, and hold memory of their own while they begin."""
    if b"picture_child" in Path(f"/proc/{pid}/cmdline").read_bytes():
        return 0
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    mine = next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) << 10
    return mine + sum(resident(one) for one in children(pid))


def _tried(pid: int) -> int:
    """Once more where a process ended while it was looked at."""
    while True:
        time.sleep(0.1)
        with suppress(OSError, StopIteration):
            return resident(pid)


def grown(tmp_path: Path, first: int, last: int) -> tuple[int, int]:
    """Memory of the server's tree after some uploads, and after many."""
    rng, marks = random.Random(3), []
    with hosted(tmp_path) as (pid, port):
        for number in range(last):
            if number % 25 == 24:
                cut_off(port)
            status = sent(port, *form(hostile(rng, number)))
            assert 400 <= status < 500, (number, status)
            if number + 1 in (first, last):
                time.sleep(0.5)
                marks.append(min(_tried(pid) for _ in range(5)))
    print(f"{marks[0] / 2**20:.1f} MB after {first}, {marks[1] / 2**20:.1f} MB after {last}")
    return marks[0], marks[1]


@pytest.mark.timeout(120)
def test_memory_stays_over_a_hundred_hostile_uploads(tmp_path: Path):
    early, late = grown(tmp_path, 30, 110)
    assert late - early < MOST_GROWTH


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_stays_over_two_thousand_hostile_uploads(tmp_path: Path):
    early, late = grown(tmp_path, 200, 2_000)
    assert late - early < MOST_GROWTH
