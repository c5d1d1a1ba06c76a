"""`diptych models`: everything of the tables, in 80 columns, and as JSON that programs may read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from diptych.cli.main import entry
from diptych.foundation.config import from_json
from diptych.imaging.recipe import recipe_of
from diptych.models.table import MODELS
from diptych.pipelines.reference import SHIPPED
from diptych.recipes.table import RECIPES, recipe_class
from tests.tiny_flow import tiny_flow_file
from tests.tiny_stable_diffusion import tiny_file
from tests.tiny_t5 import spiece_folder

TABLES = {"shipped": SHIPPED, "networks": MODELS, "recipes": RECIPES}


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert entry(["models", *words]) == 0
    return capsys.readouterr().out


def test_json_has_every_row_of_every_table(capsys):
    listed = json.loads(told(capsys, "--json"))
    assert {section: [row["name"] for row in rows] for section, rows in listed.items()} == {
        section: list(table) for section, table in TABLES.items()
    }
    for section, rows in listed.items():
        keys = {"name", "line"} | ({"parameters"} if section == "networks" else set())
        assert all(set(row) == keys and all(row.values()) for row in rows)


@pytest.mark.parametrize("columns", [80, 60])
def test_a_terminal_shows_whole_words_in_its_width(columns: int, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = told(capsys)
    assert max(map(len, text.splitlines())) <= columns
    listed = json.loads(told(capsys, "--json"))
    for row in (row for rows in listed.values() for row in rows):
        assert row["line"] in " ".join(text.split())


@pytest.mark.parametrize("name", dict.fromkeys([*SHIPPED, *MODELS, *RECIPES]))
def test_one_is_told_about(name: str, capsys):
    about = json.loads(told(capsys, name, "--json"))
    assert about["name"] == name in TABLES[about["section"]]
    text = told(capsys, name)
    if about["section"] == "shipped":
        assert about["card"].rstrip() == text.rstrip()
        return
    kind = MODELS[name].config if about["section"] == "networks" else recipe_class(name)
    assert from_json(kind, about["config"]) == kind()
    assert text.startswith(about["line"])


def test_a_name_that_nothing_has(capsys):
    assert entry(["models", "mmditt"]) == 3
    assert "'mmdit'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_file(tmp_path_factory.mktemp("sd") / "tiny.safetensors")


def test_inspect_tells_what_a_file_is(single: Path, capsys):
    assert entry(["models", "inspect", str(single)]) == 0
    said = capsys.readouterr().out
    for part in ("unet: sd1, layout original", "vae: any", "applied 208 of 208", "heads: 8", "F32"):
        assert part in said
    assert entry(["models", "inspect", str(single), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {one["component"] for one in listed} == {"unet", "vae", "text_encoder"}
    assert all(one["applied"] == one["total"] and not one["problems"] for one in listed)


def test_inspect_ends_with_4_for_what_does_not_fit(single: Path, tmp_path: Path, capsys):
    tensors = load_file(single)
    tensors["model.diffusion_model.strange"] = tensors.pop("model.diffusion_model.out.0.bias")
    save_file(tensors, tmp_path / "broken.safetensors")
    assert entry(["models", "inspect", str(tmp_path / "broken.safetensors")]) == 4
    said = capsys.readouterr().out
    assert "out.0.bias' is missing" in said and "strange' has no place" in said
    assert entry(["generate", "a cat", "--model", str(tmp_path / "broken.safetensors")]) == 4
    assert "out.0.bias" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["inspect"], 2, "no path"),
        (["inspect", "nowhere.safetensors"], 3, "nowhere"),
        (["scenes-t2i", "file"], 2, "belong to inspect"),
        (["scenes-t2i", "--variant", "fp16"], 2, "belong to inspect"),
    ],
)
def test_wrong_words_about_inspect(words: list[str], code: int, said: str, capsys):
    assert entry(["models", *words]) == code and said in capsys.readouterr().err


def test_a_single_file_paints(single: Path, tmp_path: Path, capsys):
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    asked = ["generate", "a (red:1.3) cat", "--model", str(single), "--steps", "2"]
    assert entry([*asked, "--size", "32x24", "-o", str(a)]) == 0
    assert recipe_of(a).solver == "pndm" and recipe_of(a).shift is None
    assert entry(["generate", "--like", str(a), "--model", str(single), "-o", str(b)]) == 0
    assert a.read_bytes() == b.read_bytes()
    assert entry([*asked, "--size", "33x24", "-o", str(b)]) == 2
    assert "multiples of 2" in capsys.readouterr().err
    assert entry([*asked, "--shift", "3", "-o", str(b)]) == 2
    assert "flow" in capsys.readouterr().err
    assert entry([*asked, "--size", "32x24", "--solver", "unipc", "--spacing", "karras",
                  "-o", str(b)]) == 0  # fmt: skip


@pytest.mark.parametrize(
    ("family", "tokenizer", "shift"), [("flux-dev", "tokenizer_2", None), ("sd3", "tokenizer_3", 3)]
)
def test_a_single_file_with_t5_paints(
    family: str, tokenizer: str, shift: float | None, tmp_path: Path, capsys
):
    single = tiny_flow_file(tmp_path / "whole.safetensors", family)
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    asked = ["generate", "a (red:1.3) cat", "--model", str(single), "--steps", "2"]
    assert entry([*asked, "-o", str(a)]) == 3
    assert f"spiece.model of the published '{tokenizer}'" in capsys.readouterr().err
    spiece_folder(tmp_path / tokenizer)
    assert entry([*asked, "--size", "32x24", "-o", str(a)]) == 0
    assert recipe_of(a).shift == shift and recipe_of(a).solver == "euler"
    assert entry(["generate", "--like", str(a), "--model", str(single), "-o", str(b)]) == 0
    assert a.read_bytes() == b.read_bytes()
    assert entry(["models", "inspect", str(single)]) == 0
    assert f"transformer: {family}, layout original" in capsys.readouterr().out


def test_a_file_becomes_a_folder_and_a_file_again(tmp_path: Path, capsys):
    file, folder = tiny_file(tmp_path / "one.safetensors"), tmp_path / "folder"
    said = told(capsys, "convert", str(file), "--to", "folder", "-o", str(folder))
    assert said.startswith(str(folder)) and "unet: sd1, layout folder" in said
    again, cut = tmp_path / "two.safetensors", tmp_path / "cut"
    told(capsys, "convert", str(folder), "--to", "file", "-o", str(again))
    stored, wanted = load_file(again), load_file(file)
    assert stored.keys() == wanted.keys()
    assert all((tensor == wanted[key]).all() for key, tensor in stored.items())
    words = ("--to", "folder", "-o", str(cut), "--dtype", "float16", "--shard-size", "0.2MB")
    assert entry(["models", "convert", str(file), *words]) != 0
    assert "'0.2MB' is no size" in capsys.readouterr().err and not cut.exists()
    words = (*words[:-1], "200000")
    assert "F16" in told(capsys, "convert", str(file), *words)
    assert len(list((cut / "unet").glob("*.safetensors"))) > 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "folder"), "no place for it"),
        (("--to", "file", "-o", "there"), "there already"),
        (("--to", "file", "-o", "new", "--shard-size", "1GB"), "cuts a folder's files"),
        (("--dtype", "float16", "-o", "new.safetensors"), "go with --to"),
        (("--to", "folder", "-o", "new", "--dtype", "float12"), "float12"),
    ],
)
def test_what_converts_nothing_is_refused(words, said, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    tiny_file(tmp_path / "one.safetensors")
    assert entry(["models", "convert", "one.safetensors", *words]) != 0
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.safetensors", "there"]
