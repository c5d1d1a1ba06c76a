"""Bad inputs 16 to 25: hostile pictures, made here, against the bounds and the real processes."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import signal
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from diptych.imaging.pictures import upright_rgb
from diptych.service.guards.picture_header import size_of, sniff
from diptych.service.guards.pictures import Decoded, Decoder, check_header, from_base64
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


def test_18_the_process_counts_again_and_memory_has_a_bound():
    """If a header parser of ours were fooled, the process would still refuse, in little memory."""
    bomb = flat_png(6000, 6000)
    decoder = Decoder(processes=1)

    async def run() -> Problem:
        from diptych.service.guards import pictures

        child = await pictures._started(("200", "10"))  # too few to decode it: "memory"
        try:
            said, pixels = await pictures._asked(child, bomb)
            assert (said, pixels) == ({"error": "pixels"}, b"")
        finally:
            await pictures._end(child.process)
        with pytest.raises(Problem) as caught:
            await decoder.decoded(bomb)
        return caught.value

    assert asyncio.run(run()).slug == "too-many-pixels"


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


# 19 to 22


def polyglot() -> bytes:
    return saved(picture()) + b"PK\x03\x04<script>alert(1)</script>"


def bad_crc() -> bytes:
    content = bytearray(saved(picture()))
    content[content.index(b"IDAT") - 5 - 4] ^= 1  # the checksum of the chunk before
    return bytes(content)


def bad_data_crc() -> bytes:
    content = bytearray(saved(picture()))
    content[content.index(b"IEND") - 5] ^= 1
    return bytes(content)


def text_bomb(name: bytes = b"zTXt") -> bytes:
    packed = zlib.compress(bytes(100 << 20), 9)
    heads = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}
    return png(24, 16, zlib.compress(bytes(73 * 16)), chunk(name, heads[name] + packed))


def many_texts() -> bytes:
    packed = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 20), 9))
    return png(24, 16, zlib.compress(bytes(73 * 16)), *[packed] * 100)


BROKEN: dict[str, Callable[[], bytes]] = {
    "20 PNG cut": lambda: saved(picture())[:-30],
    "20 PNG without end": lambda: saved(picture())[:-12],
    "20 JPEG cut": lambda: JPEG[: len(JPEG) // 2 + 200],
    "20 WebP cut": lambda: WEBP[:-20],
    "20 GIF cut": lambda: GIF[: len(GIF) - 100],
    "20 bad CRC": bad_crc,
    "20 bad CRC of the pixels": bad_data_crc,
    "20 noise": lambda: png(24, 16, os.urandom(500)),
    "22 zTXt bomb": text_bomb,
    "22 iTXt bomb": lambda: text_bomb(b"iTXt"),
    "22 ICC bomb": lambda: text_bomb(b"iCCP"),
    "22 many texts": many_texts,
    "18 GIF frame beyond its screen": lambda: gif_claiming(6000, 5000),
}


def test_20_and_22_broken_pictures_and_bombs_are_refused_and_the_next_picture_is_read():
    files = [make() for make in BROKEN.values()]
    interleaved = [content for bad in files for content in (bad, saved(picture()))]
    results = decoded_all(interleaved, megabytes=500)
    for name, bad, after in zip(BROKEN, results[::2], results[1::2], strict=True):
        assert isinstance(bad, Problem), name
        assert (bad.status, bad.slug) == (422, "broken-picture"), name
        assert isinstance(after, Decoded), name
        assert after.pixels == picture().tobytes(), name


def test_19_of_a_polyglot_only_the_pixels_remain():
    result = good(polyglot())
    assert result.pixels == picture().tobytes() and len(result.pixels) == 24 * 16 * 3


# 21, 23, 24


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_21_of_an_animation_the_first_frame_and_a_warning(kind: str):
    frames = [Image.new("RGB", (24, 16), color) for color in ("red", "lime", "blue")]
    options: dict[str, object] = {"lossless": True} if kind == "WEBP" else {}
    moving = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    result = good(moving)
    assert (as_array(result) == (255, 0, 0)).all() and len(result.warnings) == 1
    assert good(saved(frames[0], kind, **options)).warnings == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_23_a_picture_is_turned_as_its_exif_says_and_loses_it(orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8825)[1] = "N"  # a place on earth
    result = good(saved(picture(), exif=exif.tobytes()))
    wide = orientation < 5
    assert (result.width, result.height) == ((24, 16) if wide else (16, 24))
    ours = np.asarray(picture())
    turned = {
        1: ours,
        2: ours[:, ::-1],
        3: ours[::-1, ::-1],
        4: ours[::-1],
        5: ours.transpose(1, 0, 2),
        6: ours.transpose(1, 0, 2)[:, ::-1],
        7: ours.transpose(1, 0, 2)[::-1, ::-1],
        8: ours.transpose(1, 0, 2)[::-1],
    }
    np.testing.assert_array_equal(as_array(result), turned[orientation])


def test_24_alpha_palette_cmyk_and_gray_have_one_conversion():
    rgba = picture().convert("RGBA")
    alpha = np.tile(np.arange(24, dtype=np.uint8) * 11, (16, 1))
    rgba.putalpha(Image.fromarray(alpha))
    over_white = np.asarray(rgba)[..., :3] * (alpha[..., None] / 255) + 255.0 - alpha[..., None]
    assert abs(as_array(good(saved(rgba))) - over_white).max() <= 1
    palette = picture().quantize(8)
    with_key = saved(palette, transparency=palette.getpixel((0, 0)))
    assert tuple(as_array(good(with_key))[0, 0]) == (255, 255, 255)
    for image, kind in [
        (palette, "PNG"),
        (picture().convert("CMYK"), "JPEG"),
        (picture().convert("L"), "PNG"),
        (picture().convert("1"), "PNG"),
        (picture().convert("LA"), "PNG"),
    ]:
        content = saved(image, kind)
        with Image.open(io.BytesIO(content)) as again:
            np.testing.assert_array_equal(as_array(good(content)), np.asarray(upright_rgb(again)))


@pytest.mark.parametrize("orientation", [1, 6])
def test_24_sixteen_bits_become_the_upper_eight(orientation: int):
    deep = (np.arange(24 * 16, dtype=np.uint16) * 170).reshape(16, 24)
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = as_array(good(saved(Image.fromarray(deep), exif=exif.tobytes())))
    upper = (deep >> 8).astype(np.uint8)
    upper = upper if orientation == 1 else upper.T[:, ::-1]
    np.testing.assert_array_equal(shown, np.stack([upper] * 3, -1))


def test_a_recipe_is_kept_apart_and_other_texts_are_not():
    texts = PngImagePlugin.PngInfo()
    texts.add_text("diptych", '{"seed": 1}')
    texts.add_text("Comment", "secret")
    result = good(saved(picture(), pnginfo=texts))
    assert result.recipe == '{"seed": 1}' and b"secret" not in result.pixels
    assert "seed" not in repr(result) and "pixels" not in repr(result)  # for no log
    assert good(saved(picture())).recipe is None


# The processes


def test_a_process_is_used_again_until_its_number_of_pictures():
    async def run() -> list[int]:
        decoder = Decoder(processes=1, pictures=2)
        await decoder.start()
        ids = []
        for _ in range(4):
            child = decoder._free.get_nowait()
            decoder._free.put_nowait(child)
            ids.append(child.process.pid if child else 0)
            await decoder.decoded(saved(picture()))
        await decoder.close()
        return ids

    first, second, third, fourth = asyncio.run(run())
    assert first == second and third == 0 and fourth not in (0, first)


def test_many_at_once_each_get_their_own_also_after_some_went_away():
    colors = [(n * 20, 255 - n * 20, n) for n in range(12)]

    async def run() -> list[bytes | None]:
        decoder = Decoder(processes=2)

        async def one(color: tuple[int, int, int]) -> bytes:
            result = await decoder.decoded(saved(Image.new("RGB", (200, 100), color)))
            return result.pixels[:3]

        tasks = [asyncio.create_task(one(color)) for color in colors]
        for gone in (0, 5):
            await asyncio.sleep(0.2)
            tasks[gone].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert decoder._free.qsize() == 2
        await decoder.close()
        return [None if isinstance(d, BaseException) else d for d in done]

    pixels = asyncio.run(run())
    assert sum(p is None for p in pixels) <= 2
    assert all(p in (None, bytes(c)) for p, c in zip(pixels, colors, strict=True))


def test_who_leaves_in_the_middle_leaves_no_half_answer_to_the_next():
    large = saved(Image.effect_noise((1600, 1600), 90).convert("RGB"), "JPEG")

    async def run() -> Decoded:
        decoder = Decoder(processes=1)
        await decoder.start()
        for pause in (0.0, 0.01, 0.03, 0.06):
            task = asyncio.create_task(decoder.decoded(large))
            await asyncio.sleep(pause)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        result = await decoder.decoded(saved(picture()))
        await decoder.close()
        return result

    assert asyncio.run(run()).pixels == picture().tobytes()


def test_a_process_that_died_meanwhile_costs_nobody_a_picture():
    async def run() -> Decoded:
        decoder = Decoder(processes=1)
        await decoder.start()
        child = decoder._free.get_nowait()
        assert child is not None
        os.kill(child.process.pid, signal.SIGKILL)
        await child.process.wait()
        decoder._free.put_nowait(child)
        result = await decoder.decoded(saved(picture()))
        await decoder.close()
        return result

    assert asyncio.run(run()).pixels == picture().tobytes()


def test_a_picture_that_takes_too_long_is_given_up_and_the_process_with_it():
    large = saved(Image.effect_noise((1600, 1600), 90).convert("RGB"), "JPEG", progressive=True)

    async def run() -> None:
        decoder = Decoder(processes=1, seconds=0.02)
        await decoder.start()
        child = decoder._free.get_nowait()
        decoder._free.put_nowait(child)
        assert child is not None
        with pytest.raises(Problem, match="broken-picture"):
            await decoder.decoded(large)
        assert await child.process.wait() == -signal.SIGKILL
        await decoder.close()

    begun = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - begun < 3


def test_the_largest_picture_fits_into_its_memory_in_the_dearest_form():
    """33 million pixels with alpha, turned: four pictures of them at once."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    rows = zlib.compress((b"\0" + b"\x09\x08\x07\x80" * 6000) * 5500, 1)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 6000, 5500, 8, 6, 0, 0, 0))
    result = good(PNG + head + turned + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    assert (result.width, result.height) == (5500, 6000)


def test_the_process_holds_no_secret_and_opens_no_file(tmp_path: Path):
    """Its environment, its limits and its network, as the system tells them."""

    async def run() -> tuple[bytes, str]:
        decoder = Decoder(processes=1)
        await decoder.start()
        child = decoder._free.get_nowait()
        decoder._free.put_nowait(child)
        assert child is not None
        await decoder.decoded(saved(picture()))
        about = Path(f"/proc/{child.process.pid}")
        told = (about / "environ").read_bytes(), (about / "limits").read_text()
        await decoder.close()
        return told

    os.environ["DIPTYCH_TEST_SECRET"] = "secret"
    try:
        environment, limits = asyncio.run(run())
    finally:
        del os.environ["DIPTYCH_TEST_SECRET"]
    assert b"secret" not in environment
    rows = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()[1:]}
    assert rows["Max open files"] == rows["Max file size"] == rows["Max processes"] == "0"
    assert 10 <= int(rows["Max cpu time"]) <= 12  # seconds, what it used so far included
    assert rows["Max address space"] == str(1 << 30)
