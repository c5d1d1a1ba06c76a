"""Bad inputs 16 to 18 and 25: base64, kinds and sizes, before any picture library."""

from __future__ import annotations

import base64
import os
import struct

import pytest

from diptych.service.guards.picture_header import size_of, sniff
from diptych.service.guards.pictures import check_header, from_base64
from diptych.service.guards.problem import Problem
from tests.service.guards.hostile import (
    CLAIMS,
    GIF,
    JPEG,
    PNG,
    WEBP,
    picture,
    png,
    saved,
)

# 16

BAD_BASE64 = [
    "AAA",
    "AA=A",
    "A===",
    "AAAA AAAA",
    "AA==AAAA",
    "AAAA====",
    "AA-_",
    "AAA\x00",
    "é",
    "AA==\t",
]
BAD_BASE64 += [
    "data:image/svg+xml;base64,AAAA",
    "data:image/png,AAAA",
    "data:text/html;base64,AAAA",
]
BAD_BASE64 += ["x data:image/png;base64,AAAA", "data:image/png;base64,data:image/png;base64,AAAA"]


@pytest.mark.parametrize("text", BAD_BASE64)
def test_16_base64_with_junk_is_refused(text: str):
    with pytest.raises(Problem) as caught:
        from_base64(text, "/image")
    assert (caught.value.status, caught.value.slug) == (422, "bad-base64")


def test_16_newlines_and_the_prefix_pass():
    content = os.urandom(1000)
    text = base64.encodebytes(content).decode()
    assert from_base64(text, "/image") == content
    assert from_base64("data:image/webp;base64," + text.replace("\n", "\r\n"), "/image") == content
    with pytest.raises(Problem, match="too-large"):
        from_base64("A" * (28 << 20), "/image")


# 17

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(%stdout) (w) file\nshowpage\n"
OTHERS = {
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "eps": EPS,
    "pdf": b"%PDF-1.7\n",
    "tiff": saved(picture(), "TIFF"),
    "bmp": saved(picture(), "BMP"),
    "ico": saved(picture(), "ICO"),
    "avif": b"\0\0\0\x20ftypavif\0\0\0\0",
    "html": b"<html>GIF89a",
    "riff": b"RIFF\0\0\0\0WAVEfmt ",
    "empty": b"",
    "cut": PNG[:7],
}


@pytest.mark.parametrize("name", OTHERS)
def test_17_other_kinds_are_refused_before_any_library(name: str):
    with pytest.raises(Problem) as caught:
        check_header(OTHERS[name], "/image")
    assert (caught.value.status, caught.value.slug) == (415, "not-a-picture")


# 18, 25


@pytest.mark.parametrize("kind", CLAIMS)
def test_18_a_pixel_bomb_is_refused_by_its_header(kind: str):
    for width, height, slug in [
        (13000, 13000, "too-many-pixels"),
        (6000, 5501, "too-many-pixels"),
        (65_535, 65_535, "too-many-pixels"),
        (7, 24, "bad-shape"),
        (24, 7, "bad-shape"),
        (800, 24, "bad-shape"),
        (16, 600, "bad-shape"),
    ]:
        if kind == "webp" and width > 1 << 14:
            continue
        content = CLAIMS[kind](width, height)
        if kind == "gif" and slug == "bad-shape":
            content = GIF[:6] + struct.pack("<HH", width, height) + GIF[10:]
            content = content.replace(struct.pack("<HH", 24, 16), struct.pack("<HH", width, height))
        with pytest.raises(Problem) as caught:
            check_header(content, "/image")
        assert caught.value.slug == slug, (width, height)
        assert caught.value.status == {"too-many-pixels": 413, "bad-shape": 422}[slug]
    check_header(CLAIMS[kind](6000, 5500), "/image")


@pytest.mark.parametrize("kind", CLAIMS)
def test_a_claimed_size_is_read_to_the_pixel(kind: str):
    content = CLAIMS[kind](6001, 5002)
    found = sniff(content)
    assert found == kind and size_of(content, found) == (6001, 5002)


def test_25_the_shape_is_checked_at_its_bounds():
    for width, height in [(8, 8), (8, 256), (256, 8)]:
        check_header(png(width, height, b""), "/image")
    for width, height in [(8, 257), (0, 5), (5, 0), (0, 0)]:
        with pytest.raises(Problem, match="bad-shape"):
            check_header(png(width, height, b""), "/image")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"progressive": True}])
def test_sizes_equal_those_of_pillow(kind: str, options: dict[str, bool]):
    for width, height in [(24, 16), (300, 301), (257, 9)]:
        content = saved(picture(width, height), kind, **options)
        found = sniff(content)
        assert found == kind.lower() and size_of(content, found) == (width, height)


@pytest.mark.parametrize("content", [JPEG, WEBP, GIF, saved(picture())])
def test_a_header_cut_anywhere_is_a_refusal_and_nothing_else(content: bytes):
    for end in range(min(900, len(content))):
        try:
            check_header(content[:end], "/image")
        except Problem as problem:
            assert problem.slug in ("not-a-picture", "broken-picture")
