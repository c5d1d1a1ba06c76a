"""Adapters on the command line: told of, painted with, kept in the picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from diptych.checkpoints.adapters.write import write_adapter
from diptych.cli.conditions import with_strength
from diptych.cli.main import entry
from diptych.imaging.recipe import recipe_of
from tests.tiny_adapters import tiny_adapter
from tests.tiny_stable_diffusion import tiny_file, tiny_networks


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("sd")
    networks = {name: n for name, n in tiny_networks("sd1").items() if name != "vae"}
    adapter = tiny_adapter(networks, ("lora", "loha"), dtype=torch.float32)
    save_file({"emb_params": torch.randn(2, 64)}, folder / "badhandv4.safetensors")
    return {
        "model": str(tiny_file(folder / "tiny.safetensors")),
        "lora": str(write_adapter(folder / "soft.safetensors", adapter, networks)),
        "sdxl": str(tiny_file(folder / "sdxl.safetensors", "sdxl")),
        "word": str(folder / "badhandv4.safetensors"),
    }


def words(files: dict[str, str], *more: str) -> list[str]:
    asked = ["generate", "a cat, badhandv4", "--model", files["model"], "--size", "24x16"]
    return [*asked, "--steps", "2", *more]


def test_pictures_are_painted_with_them_and_that_is_kept(files, tmp_path: Path, capsys):
    plain, soft, word = (str(tmp_path / f"{name}.png") for name in ("a", "b", "c"))
    assert entry(words(files, "-o", plain)) == 0
    assert entry(words(files, "--lora", f"{files['lora']}:0.3", "-o", soft)) == 0
    assert entry(words(files, "--word", files["word"], "-o", word)) == 0
    pixels = [Image.open(path).tobytes() for path in (plain, soft, word)]
    assert len(set(pixels)) == 3
    assert recipe_of(soft).loras[0].startswith("soft x 0.3 ")
    assert recipe_of(word).words[0].startswith("badhandv4 ")
    assert entry(["generate", "--like", soft, "-o", plain]) == 2
    assert "Name it with --lora" in capsys.readouterr().err
    again = ["generate", "--like", soft, "--model", files["model"], "-o", plain]
    assert entry([*again, "--lora", f"{files['lora']}:0.3"]) == 0
    assert Image.open(plain).tobytes() == pixels[1]


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        ("a.safetensors", ("a.safetensors", 1.0)),
        ("a.safetensors:0.8", ("a.safetensors", 0.8)),
        ("a:b.safetensors:-1", ("a:b.safetensors", -1.0)),
        ("C:x", ("C:x", 1.0)),
    ],
)
def test_a_file_and_its_strength(said: str, parts: tuple[str, float]):
    assert with_strength(said) == parts


def test_a_file_that_is_not_there(files, capsys):
    assert entry(words(files, "--lora", "none.safetensors:0.5")) == 3
    assert "none.safetensors" in capsys.readouterr().err


def test_inspect_tells_of_an_adapter(files, capsys):
    assert entry(["models", "inspect", files["lora"]]) == 0
    told = capsys.readouterr().out
    assert "layout kohya" in told and "ranks: 3, 4" in told and "x LoHa" in told
    assert "applied" not in told
    assert entry(["models", "inspect", files["lora"], "--base", files["model"]]) == 0
    told = capsys.readouterr().out
    assert "adapter: sd1, layout kohya" in told and "x unet" in told and "x text_encoder" in told
    assert entry(["models", "inspect", files["lora"], "--base", files["model"], "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["applied"] == told["total"] > 100 and told["targets"]["unet"] > 20


def test_inspect_tells_what_does_not_fit(files, capsys):
    assert entry(["models", "inspect", files["lora"], "--base", files["sdxl"]]) == 4
    told = capsys.readouterr().out
    assert "does not fit" in told or "has no place" in told
    assert entry(["models", "inspect", files["word"], "--base", files["sdxl"]]) == 4
    assert "no rows of width 128" in capsys.readouterr().out


def test_inspect_tells_of_a_word(files, capsys):
    assert entry(["models", "inspect", files["word"]]) == 0
    assert "word: any, layout emb_params" in capsys.readouterr().out
    assert entry(["models", "inspect", files["word"], "--base", files["model"]]) == 0
    assert "applied 1 of 1" in capsys.readouterr().out


def test_a_base_is_for_adapters(files, capsys):
    assert entry(["models", "inspect", files["model"], "--base", files["model"]]) == 2
    assert "no adapter" in capsys.readouterr().err
