"""The mark in the pixels: unseen, found after what pictures go through, not found elsewhere."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from diptych.imaging.provenance import provenance_of
from diptych.imaging.recipe import PictureRecipe, png_bytes
from diptych.imaging.watermark import FALSE_ALARMS, find_mark, marked

PAYLOAD = 0xC0FFEE
RECIPE = PictureRecipe(
    prompt="two cats", negative_prompt="", seed=3, steps=4, guidance=1.0, shift=None,
    width=512, height=384, model="m", model_hash="0123456789", version="1",
)  # fmt: skip


def clouds(width: int, height: int, seed: int) -> Image.Image:
    """Noise with the spectrum of photographs."""
    rng = np.random.default_rng(seed)
    across = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    gain = 1 / np.maximum(across, 1 / width)
    noise = np.fft.fft2(rng.normal(size=(height, width, 3)), axes=(0, 1))
    values = np.fft.ifft2(noise * gain[..., None], axes=(0, 1)).real
    values = (values - values.mean()) / values.std() * 40 + 128
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def drawn(width: int, height: int, seed: int) -> Image.Image:
    """Flat shapes on white, some of them in rows whose distance divides the tile."""
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    pitch = int(rng.choice([4, 8, 16, 32, 37]))
    for x in range(0, width, pitch * 2):
        draw.rectangle((x, 0, x + pitch - 1, height // 3), fill=tuple(rng.integers(0, 256, 3)))
    draw.ellipse((width // 5, height // 4, width // 2, height * 3 // 4), fill="red")
    return picture


def through_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    picture.save(content, format="jpeg", quality=quality)
    return Image.open(content).convert("RGB")


CHANGES = {
    "jpeg 75": lambda p: through_jpeg(p, 75),
    "half and back": lambda p: p.resize((p.width // 2, p.height // 2)).resize(p.size),
    "cropped": lambda p: p.crop((61, 37, p.width - 29, p.height - 11)),
    "darker": lambda p: p.point(lambda value: value * 0.8),
    "blurred": lambda p: p.filter(ImageFilter.GaussianBlur(1)),
    "three quarters": lambda p: p.resize((p.width * 3 // 4, p.height * 3 // 4)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", [clouds, drawn])
def test_found_with_its_bits(change, kind):
    found = find_mark(CHANGES[change](marked(kind(576, 448, 5), PAYLOAD)))
    assert found is not None and found.payload == PAYLOAD
    assert found.chance <= FALSE_ALARMS


@pytest.mark.parametrize("kind", [clouds, drawn])
def test_unseen_and_the_same_each_time(kind):
    picture = kind(320, 272, 1)
    once, again = marked(picture, PAYLOAD), marked(picture, PAYLOAD)
    assert once.tobytes() == again.tobytes() != picture.tobytes()
    error = np.mean((np.asarray(once, float) - np.asarray(picture, float)) ** 2)
    assert 10 * np.log10(255**2 / error) >= 40


def test_the_pixels_are_those_of_every_machine():
    """The published bits: pictures of older releases must stay readable."""
    tile = marked(Image.new("RGB", (256, 256), (128, 128, 128)), PAYLOAD)
    assert hashlib.sha256(tile.tobytes()).hexdigest()[:16] == "e3ae101b3920d8ef"


def test_unmarked_pictures_carry_none():
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (256, 256, 3), np.uint8)) for _ in range(40)]
    slopes = [Image.linear_gradient("L").rotate(7 * i).convert("RGB") for i in range(20)]
    pictures = [kind(256, 272, i) for kind in (clouds, drawn) for i in range(80)] + noise + slopes
    assert not [i for i, picture in enumerate(pictures) if find_mark(picture) is not None]


def test_small_pictures_are_left_alone():
    small = clouds(255, 300, 0)
    assert marked(small, PAYLOAD) is small
    assert find_mark(small) is None


def test_the_mark_belongs_to_its_recipe():
    picture = clouds(512, 384, 2)
    png = png_bytes(picture, RECIPE)
    told = provenance_of(png, Image.open(io.BytesIO(png)).convert("RGB"))
    assert (told.recipe, told.watermark, told.same_recipe) == ("diptych", "found", True)
    pixels = Image.open(io.BytesIO(png)).convert("RGB")
    other = png_bytes(pixels, replace(RECIPE, seed=4), marks=False)
    assert provenance_of(other, pixels).same_recipe is False
    bare = png_bytes(picture, RECIPE, marks=False)
    assert Image.open(io.BytesIO(bare)).tobytes() == picture.tobytes()
