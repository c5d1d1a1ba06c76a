"""Pictures in, and recipes inside pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.foundation.errors import NotFound, Unreadable
from diptych.imaging.pictures import read_picture, to_square
from diptych.imaging.recipe import PictureRecipe, png_bytes, recipe_of, write_picture
from diptych.imaging.sheet import sheet

RECIPE = PictureRecipe(
    prompt="a red circle", negative_prompt="a star", seed=3, steps=20, guidance=4.0, shift=2.0,
    width=64, height=64, model="scenes-t2i", model_hash="0123456789", version="0.1.0",
)  # fmt: skip


def test_a_recipe_comes_back_and_the_same_request_is_the_same_bytes(tmp_path: Path):
    picture = Image.new("RGB", (64, 64), "red")
    write_picture(tmp_path / "a.png", picture, RECIPE)
    assert recipe_of(tmp_path / "a.png") == RECIPE
    assert (tmp_path / "a.png").read_bytes() == png_bytes(picture, RECIPE)
    assert png_bytes(picture, replace(RECIPE, seed=4)) != png_bytes(picture, RECIPE)


def test_the_communitys_text_is_there(tmp_path: Path):
    write_picture(tmp_path / "a.png", Image.new("RGB", (64, 64)), RECIPE)
    with Image.open(tmp_path / "a.png") as opened:
        lines = opened.info["parameters"].split("\n")
    assert lines[0] == RECIPE.prompt and lines[1] == "Negative prompt: a star"
    settings = dict(part.split(": ") for part in lines[2].split(", "))
    assert settings["Steps"] == "20" and settings["Seed"] == "3" and settings["Size"] == "64x64"


def test_pictures_without_a_recipe_say_so(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    with pytest.raises(Unreadable, match="no recipe"):
        recipe_of(tmp_path / "plain.png")
    with pytest.raises(NotFound):
        recipe_of(tmp_path / "none.png")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(Unreadable, match=r"x\.png"):
        read_picture(tmp_path / "x.png")


def test_a_cut_picture_is_refused(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Unreadable):
        read_picture(tmp_path / "a.jpg")


def test_transparency_lies_over_white_and_exif_turns(tmp_path: Path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_picture(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    turned = Image.new("RGB", (4, 8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert read_picture(tmp_path / "turned.jpg").size == (8, 4)


def test_a_square_of_its_own_size_is_untouched():
    pixels = np.random.default_rng(1).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    assert (to_square(Image.fromarray(pixels), 32) == pixels).all()
    assert to_square(Image.fromarray(pixels), 64).shape == (64, 64, 3)


def test_a_sheet_shows_every_picture():
    pictures = [np.full((16, 16, 3), 20 * i, np.uint8) for i in range(5)]
    page = np.asarray(sheet(pictures, ["words"] * 5, [True, False, True, None, None], columns=2))
    for i in range(5):
        assert (page == 20 * i).all(-1).sum() >= 128 * 128


def test_gray_of_16_bits_is_read_by_its_upper_byte(tmp_path: Path):
    wide = np.linspace(0, 65_535, 64 * 4).astype(np.uint16).reshape(4, 64)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    read = np.asarray(read_picture(tmp_path / "wide.png"))
    assert np.array_equal(read, np.repeat((wide >> 8).astype(np.uint8)[:, :, None], 3, axis=2))
