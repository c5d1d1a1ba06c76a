"""Approximations, larger pictures and pictures that are alike, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from diptych.cli.main import entry
from diptych.foundation.errors import InvalidValue, NotFound
from diptych.imaging.recipe import recipe_of
from tests.tiny_stable_diffusion import tiny_file


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_file(tmp_path_factory.mktemp("sd") / "tiny.safetensors", "sdxl"))


def painted(path: str, out: Path, *more: str) -> int:
    line = ["--model", path, "--size", "32x32", "--steps", "3", "-o", str(out), *more]
    return entry(["generate", "a cat", *line])


def test_what_is_approximate_says_so_and_is_not_repeated_by_chance(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "a.png"
    assert painted(path, out, "--approximate", "int8", "--approximate", "deepcache:2") == 0
    said = ("int8", "deepcache every 2, 2 layers")
    assert recipe_of(out).approximations == said
    again = ["generate", "--like", str(out), "-o", str(tmp_path / "b.png"), "--model", path]
    assert entry(again) == InvalidValue.exit_code
    assert "--approximate" in capsys.readouterr().err
    assert entry([*again, "--approximate", "int8", "--approximate", "deepcache:2"]) == 0
    assert Image.open(out).tobytes() == Image.open(tmp_path / "b.png").tobytes()


def test_a_type_is_taken_over(path: str, tmp_path: Path):
    out, again = tmp_path / "a.png", tmp_path / "b.png"
    assert painted(path, out, "--dtype", "bfloat16") == 0
    assert entry(["generate", "--like", str(out), "-o", str(again), "--model", path]) == 0
    assert recipe_of(again).dtype == "bfloat16"
    assert out.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(
    "said, code",
    [
        (["deepcach"], NotFound.exit_code),
        (["deepcache:x"], InvalidValue.exit_code),
        (["first-block"], InvalidValue.exit_code),
        (["deepcache", "first-block"], InvalidValue.exit_code),
    ],
)
def test_what_is_not_offered(path: str, tmp_path: Path, said: list[str], code: int):
    flags = [word for name in said for word in ("--approximate", name)]
    assert painted(path, tmp_path / "a.png", *flags) == code


def test_larger_and_alike(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    line = ["generate", "a cat", "a dog", "--model", path, "--size", "32x32", "--steps", "3"]
    line += ["-o", str(tmp_path), "--json", "--consistent"]
    assert entry([*line, "1:2", "--hidiffusion", "0.4"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["seed"] == second["seed"] and second["hidiffusion"] == "until 0.4, windows"
    assert second["consistent"] == "with 'a cat' from step 1, layer 2"
    assert entry([*line, "soon"]) == InvalidValue.exit_code
    again = ["generate", "--like", second["file"], "-o", str(tmp_path / "c.png")]
    assert entry(again) == InvalidValue.exit_code
    assert painted(path, tmp_path / "a.png", "--hidiffusion", "2") == InvalidValue.exit_code
