"""Bad inputs 19 to 24: broken pictures and bombs, animations, turned ones, all color modes."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from diptych.imaging.pictures import upright_rgb
from diptych.service.guards.pictures import Decoded
from diptych.service.guards.problem import Problem
from tests.service.guards.hostile import (
    GIF,
    JPEG,
    WEBP,
    as_array,
    chunk,
    decoded_all,
    gif_claiming,
    good,
    picture,
    png,
    saved,
)

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


def test_23_a_picture_is_turned_as_its_exif_says_and_loses_it():
    ours = np.asarray(picture())
    other = ours.transpose(1, 0, 2)
    turned = {1: ours, 2: ours[:, ::-1], 3: ours[::-1, ::-1], 4: ours[::-1]}
    turned |= {5: other, 6: other[:, ::-1], 7: other[::-1, ::-1], 8: other[::-1]}
    files = []
    for orientation in turned:
        exif = Image.Exif()
        exif[0x0112] = orientation
        exif.get_ifd(0x8825)[1] = "N"  # a place on earth
        files.append(saved(picture(), exif=exif.tobytes()))
    for result, wanted in zip(decoded_all(files), turned.values(), strict=True):
        assert isinstance(result, Decoded)
        np.testing.assert_array_equal(as_array(result), wanted)


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
