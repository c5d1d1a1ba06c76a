"""What is found in files of other programs, and in files that are not what they say."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diptych.cli.main import entry
from diptych.imaging.provenance import provenance_of_file
from diptych.imaging.recipe import PictureRecipe, png_bytes

SAID = "a cat\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1"


def plain() -> Image.Image:
    return Image.new("RGB", (32, 32), "gray")


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
def test_a_comment_of_exif_is_a_recipe(kind: str, order: str, tmp_path: Path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + SAID.encode(order)
    plain().save(tmp_path / "a", format=kind, exif=exif)
    assert provenance_of_file(tmp_path / "a").recipe == "automatic1111"


def test_another_comment_is_none(tmp_path: Path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "my holiday".encode("utf-16-be")
    plain().save(tmp_path / "a.jpg", exif=exif)
    found = provenance_of_file(tmp_path / "a.jpg")
    assert (found.recipe, found.watermark, found.ours) == ("none", "too-small", False)


@pytest.mark.parametrize(("key", "recipe"), [
    ("parameters", "automatic1111"), ("workflow", "comfyui"), ("prompt", "comfyui"),
    ("Title", "none"),
])  # fmt: skip
def test_texts_of_png(key: str, recipe: str, tmp_path: Path):
    texts = PngInfo()
    texts.add_text(key, SAID)
    plain().save(tmp_path / "a.png", pnginfo=texts)
    assert provenance_of_file(tmp_path / "a.png").recipe == recipe


def test_the_command_line_ends_with_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = PictureRecipe(
        prompt="a cat", negative_prompt="", seed=1, steps=4, guidance=2.0, shift=None, width=32,
        height=32, model="m", model_hash="0" * 10, version="0.1.0",
    )  # fmt: skip
    (tmp_path / "ours.png").write_bytes(png_bytes(plain(), recipe))
    plain().save(tmp_path / "plain.png")
    (tmp_path / "none.png").write_bytes(b"no picture")
    ours, other, none = (str(tmp_path / f"{name}.png") for name in ("ours", "plain", "none"))
    assert entry(["verify", ours]) == 0 and "written by Diptych" in capsys.readouterr().out
    assert entry(["verify", ours, other]) == 1
    assert entry(["verify", other, none, ours]) == 2
    assert entry(["verify", str(tmp_path / "missing.png")]) == 2
    capsys.readouterr()
    assert entry(["verify", "--json", ours, none]) == 2
    first, second = json.loads(capsys.readouterr().out)
    assert first["ours"] and first["recipe"] == "diptych" and "error" in second


def test_a_cut_file_says_what_is_left(tmp_path: Path):
    content = BytesIO()
    plain().save(content, format="PNG")
    (tmp_path / "cut.png").write_bytes(content.getvalue()[:60])
    assert entry(["verify", str(tmp_path / "cut.png")]) == 2
