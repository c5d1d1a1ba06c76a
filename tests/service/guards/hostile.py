"""Pictures, good ones and hostile ones, made from nothing; and what our processes make of them."""

from __future__ import annotations

import asyncio
import io
import struct
import zlib

import numpy as np
from PIL import Image

from diptych.service.guards.pictures import Decoded, Decoder
from diptych.service.guards.problem import Problem

PNG = b"\x89PNG\r\n\x1a\n"


def picture(width: int = 24, height: int = 16) -> Image.Image:
    """Columns and rows that differ, so that a turned picture is another."""
    red, green = np.meshgrid(np.arange(width) * 9 % 256, np.arange(height) * 13 % 256)
    return Image.fromarray(np.stack([red, green, red ^ green], -1).astype(np.uint8))


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, format=kind, **options)
    return content.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes, *before: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return PNG + head + b"".join(before) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def decoded_all(files: list[bytes], **options: int) -> list[Decoded | Problem]:
    """What one process after another makes of them."""

    async def run() -> list[Decoded | Problem]:
        decoder = Decoder(processes=1, **options)
        results: list[Decoded | Problem] = []
        try:
            for content in files:
                try:
                    results.append(await decoder.decoded(content, "/image"))
                except Problem as problem:
                    results.append(problem)
        finally:
            await decoder.close()
        return results

    return asyncio.run(run())


def good(content: bytes) -> Decoded:
    (result,) = decoded_all([content])
    assert isinstance(result, Decoded), result
    return result


def as_array(result: Decoded) -> np.ndarray:
    return np.frombuffer(result.pixels, np.uint8).reshape(result.height, result.width, 3)


JPEG = saved(picture(), "JPEG")
WEBP = saved(picture(), "WEBP")
GIF = saved(picture(), "GIF")


def jpeg_claiming(width: int, height: int) -> bytes:
    at = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:at] + struct.pack(">HH", height, width) + JPEG[at + 4 :]


def gif_claiming(width: int, height: int) -> bytes:
    """The first frame, not the screen."""
    at = GIF.index(b"\x2c", 13 + 768) + 5
    return GIF[:at] + struct.pack("<HH", width, height) + GIF[at + 4 :]


def webp_claiming(width: int, height: int) -> bytes:
    body = b"WEBPVP8X" + struct.pack("<II", 10, 0)
    body += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little") + WEBP[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def flat_png(width: int, height: int) -> bytes:
    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return png(width, height, rows)


CLAIMS = {
    "png": lambda w, h: png(w, h, b""),
    "jpeg": jpeg_claiming,
    "gif": gif_claiming,
    "webp": webp_claiming,
}
