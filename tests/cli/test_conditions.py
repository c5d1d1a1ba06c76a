"""Pictures given beside words, as a person types them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.cli.conditions import given
from diptych.cli.main import entry
from diptych.foundation.errors import InvalidValue
from diptych.imaging.recipe import recipe_of
from tests.tiny_stable_diffusion import tiny_control, tiny_file


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("sd")
    edges = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8))
    edges.save(folder / "edges.png")
    return {
        "model": str(tiny_file(folder / "tiny.safetensors")),
        "canny": str(tiny_control(folder / "canny.safetensors")),
        "edges": str(folder / "edges.png"),
    }


def words(files: dict[str, str], *more: str) -> list[str]:
    asked = ["generate", "a cat", "--model", files["model"], "--size", "24x16", "--steps", "3"]
    return [*asked, *more]


def test_a_picture_is_followed_and_that_is_kept(files, tmp_path: Path, capsys):
    plain, followed, weak = (str(tmp_path / f"{name}.png") for name in ("a", "b", "c"))
    control = f"{files['canny']}:{files['edges']}"
    assert entry(words(files, "-o", plain)) == 0
    assert entry(words(files, "--control", control, "-o", followed)) == 0
    assert entry(words(files, "--control", f"{control}:0", "-o", weak)) == 0
    pixels = [Image.open(path).tobytes() for path in (plain, followed, weak)]
    assert pixels[0] != pixels[1] and pixels[0] == pixels[2]
    (told,) = recipe_of(followed).controls
    assert told.startswith("canny x 1 from 0 to 1 on ")
    assert entry(["generate", "--like", followed, "-o", plain]) == 2
    assert "Name it with --control" in capsys.readouterr().err
    again = ["generate", "--like", followed, "--model", files["model"], "--control", control]
    assert entry([*again, "-o", weak]) == 0
    assert Image.open(weak).tobytes() == pixels[1]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--control", "canny.safetensors"], "names no picture"),
        (["--control", "canny.safetensors:none.png"], "none.png"),
        (["--switch", "0.5"], "when a --refiner takes over"),
        (["--image-encoder", "x"], "reads an --image-prompt"),
        (["--clip-skip", "9"], "leaves nothing"),
        (["--image-guidance", "99"], "99"),
    ],
)
def test_wrong_words_are_two_lines(files, capsys, more: list[str], said: str):
    assert entry(words(files, *more)) in (2, 3)
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) <= 2


def test_large_pictures(files, tmp_path: Path, capsys):
    large, again, wide = (str(tmp_path / f"{name}.png") for name in "abc")
    asked = ["--enlarge", "1.5", "--tile", "8", "--tile-decode", "12"]
    assert entry(words(files, *asked, "-o", large)) == 0
    pixels = np.asarray(Image.open(large))
    assert pixels.shape == (24, 36, 3) and recipe_of(large).tiling.startswith("8 cells")
    like = ["generate", "--like", large, "--model", files["model"], *asked]
    assert entry([*like, "-o", again]) == 2
    assert "Give --size" in capsys.readouterr().err
    assert entry([*like, "--size", "24x16", "-o", again]) == 0
    assert np.array_equal(np.asarray(Image.open(again)), pixels)
    room = ["generate", "a cat", "--model", files["model"], "--steps", "3", "--init"]
    assert entry([*room, files["edges"], "--extend", "0,0,8,0", "-o", wide]) == 0
    kept, found = (np.asarray(Image.open(path)) for path in (files["edges"], wide))
    assert found.shape == (16, 32, 3) and np.array_equal(found[:, :15], kept[:, :15])
    for wrong in (["--extend", "1,2"], ["--extend", "0,0,0,0"]):
        assert entry([*room, files["edges"], *wrong]) == 2
    assert entry(words(files, "--extend", "0,0,8,0")) == 2
    assert entry(words(files, "--enlarge", "99")) == 2
    assert entry(words(files, "--tile", "1")) == 2


def test_a_model_that_follows_nothing_says_so(files, capsys):
    control = f"{files['canny']}:{files['edges']}"
    assert entry(["generate", "a red star", "--control", control]) == 2
    assert "takes no controls" in capsys.readouterr().err


def test_colons(tmp_path: Path):
    (tmp_path / "b:c.png").write_bytes(b"")
    said = given(f"x.safetensors:{tmp_path}/b:c.png:0.5", "--control")
    assert said == ("x.safetensors", f"{tmp_path}/b:c.png", 0.5)
    with pytest.raises(InvalidValue, match="names no picture"):
        given("x", "--control")
