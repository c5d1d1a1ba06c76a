"""What the server and its engine say to each other: frames of msgpack on a Unix socket.

A frame: four bytes of length, one of the version, a map. `call` asks and is answered by a frame of
the same `number`; without a `number` nothing is answered.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import msgpack

VERSION = 1
MOST = 64 << 20
_HEAD = struct.Struct(">IB")

Message = dict[str, Any]


class BadFrame(Exception):
    """The other side does not speak this version, or speaks nonsense: the connection ends."""


def packed(message: Message) -> bytes:
    """A message as a frame."""
    body: bytes = msgpack.packb(message, use_bin_type=True)  # pyright: ignore[reportAssignmentType]
    return _HEAD.pack(len(body), VERSION) + body


def _length(head: bytes) -> int:
    length, version = _HEAD.unpack(head)
    if version != VERSION or length > MOST:
        raise BadFrame(f"version {version}, {length} bytes")
    return length


def _unpacked(body: bytes) -> Message:
    try:
        message = msgpack.unpackb(body, raw=False)
    except ValueError as error:
        raise BadFrame(str(error)) from error
    if not isinstance(message, dict):
        raise BadFrame("no map")
    return message


async def read_frame(reader: asyncio.StreamReader) -> Message | None:
    """The next message, None at the end. Raises BadFrame."""
    try:
        head = await reader.readexactly(_HEAD.size)
        return _unpacked(await reader.readexactly(_length(head)))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def receive(line: socket.socket) -> Message | None:
    """The next message of a blocking socket, None at the end. Raises BadFrame."""
    head = _exactly(line, _HEAD.size)
    body = None if head is None else _exactly(line, _length(head))
    return None if body is None else _unpacked(body)


def _exactly(line: socket.socket, count: int) -> bytes | None:
    parts: list[bytes] = []
    while count:
        try:
            part = line.recv(min(count, 1 << 20))
        except OSError:
            return None
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
