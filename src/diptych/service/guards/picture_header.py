"""What a picture file says of itself, read without any picture library: its kind and its size.

Sizes by the formats' own documents: PNG 3rd edition 11.2.2, ITU-T T.81 B.2.2, RFC 9649, GIF89a.
Where a file names several sizes the largest counts, since it is the one that costs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Literal

Kind = Literal["png", "jpeg", "webp", "gif"]
Size = tuple[int, int]  # width, height

_NO_FRAME = frozenset({0xC4, 0xC8, 0xCC})  # Huffman tables, reserved, arithmetic conditioning
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


def sniff(head: bytes) -> Kind | None:
    """The kind by the first 16 bytes, None for all others (SVG, EPS, TIFF, PDF, AVIF ...)."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return None


def size_of(content: bytes, kind: Kind) -> Size | None:
    """Width and height as the file claims, None where it claims none."""
    try:
        return _SIZES[kind](content)
    except (struct.error, IndexError):  # the file ends within its header
        return None


def _png(content: bytes) -> Size | None:
    length, name, width, height = struct.unpack_from(">I4sII", content, 8)
    return (width, height) if (length, name) == (13, b"IHDR") else None


def _jpeg(content: bytes) -> Size | None:
    """The largest frame header before the first scan."""
    at, found = 2, None
    while True:
        if content[at] != 0xFF:
            return found
        while content[at] == 0xFF:  # fill bytes
            at += 1
        marker = content[at]
        at += 1
        if marker in _ALONE:
            continue
        if marker in (0xD9, 0xDA):
            return found
        (length,) = struct.unpack_from(">H", content, at)
        if length < 2:
            return None
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            height, width = struct.unpack_from(">HH", content, at + 3)
            found = _larger(found, (width, height))
        at += length


def _webp(content: bytes) -> Size | None:
    """VP8X names the canvas, which holds all frames; VP8 and VP8L are the frame."""
    name = content[12:16]
    if name == b"VP8X":
        low = content[24:30]
        if len(low) < 6:
            return None
        return int.from_bytes(low[:3], "little") + 1, int.from_bytes(low[3:], "little") + 1
    if name == b"VP8L" and content[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", content, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if name == b"VP8 " and content[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _gif(content: bytes) -> Size | None:
    """The screen, or the first frame where that reaches beyond it: Pillow grows the screen."""
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while content[at] == 0x21:  # an extension: its label, then blocks until an empty one
        at += 2
        while content[at]:
            at += 1 + content[at]
        at += 1
    if content[at] != 0x2C:
        return None
    left, top, wide, high = struct.unpack_from("<4H", content, at + 1)
    return max(width, left + wide), max(height, top + high)


def _larger(one: Size | None, other: Size) -> Size:
    return other if one is None else (max(one[0], other[0]), max(one[1], other[1]))


_SIZES: Mapping[Kind, Callable[[bytes], Size | None]] = {
    "png": _png,
    "jpeg": _jpeg,
    "webp": _webp,
    "gif": _gif,
}
