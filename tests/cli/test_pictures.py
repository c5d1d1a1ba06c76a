"""The verbs that paint and read, as a person types them."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from diptych.cli.main import entry
from diptych.imaging.recipe import recipe_of
from tests.tiny_models import tiny_painter, tiny_reader


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return str(tiny_painter(folder / "p")), str(tiny_reader(folder / "r"))


def test_generate_repeats_a_picture_and_what_is_said_wins(models, tmp_path: Path, capsys):
    a, b, c = (str(tmp_path / name) for name in ("a.png", "b.png", "c.png"))
    assert entry(["generate", "a red star", "--seed", "5", "--model", models[0], "-o", a]) == 0
    assert entry(["generate", "--like", a, "--model", models[0], "-o", b]) == 0
    assert Path(a).read_bytes() == Path(b).read_bytes()
    assert entry(["generate", "--like", a, "--model", models[0], "--seed", "6", "-o", c]) == 0
    assert recipe_of(c).seed == 6 and recipe_of(c).prompt == "a red star"
    assert a in capsys.readouterr().out


def test_generate_many(models, tmp_path: Path, capsys):
    words = ["generate", "a red star", "a blue moon", "--count", "2", "--model", models[0]]
    out, grid = tmp_path / "many", tmp_path / "grid.png"
    assert entry([*words, "-o", str(out), "--grid", str(grid), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [one.get("seed") for one in made[:4]] == [0, 1, 0, 1]
    assert len(list(out.glob("*.png"))) == 4 and _width(grid) > 256


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["generate", "a red star", "--model", "scenes-t3i"], 3, "scenes-t2i"),
        (["generate", ""], 2, "empty"),
        (["generate"], 2, "no prompt"),
        (["generate", "a red strr"], 2, "'star'"),
        (["generate", "a red star and " * 30], 2, "reads 22"),
        (["generate", "a red star", "--size", "512x512"], 2, "32 x 32"),
        (["generate", "a red star", "--size", "big"], 2, "64x64"),
        (["generate", "a red star", "--steps", "0"], 2, "1 to 1000"),
        (["generate", "a red star", "--count", "0"], 2, "1 to 1024"),
        (["generate", "a red star", "-o", "a.jpg"], 2, "PNG"),
        (["generate", "a red star", "--dtype", "float61"], 3, "float16"),
        (["caption", "none.png"], 3, "none.png"),
        (["ask", "none.png", "how many?"], 3, "none.png"),
    ],
)
def test_wrong_words_are_two_lines_and_a_code(models, capsys, words, code, said):
    if words[0] == "generate" and "--model" not in words:
        words = [*words, "--model", models[0]]
    assert entry(words) == code
    shown = capsys.readouterr().err
    assert said in shown and "Traceback" not in shown and len(shown.strip().split("\n")) <= 2


def test_reading_verbs_print_words_or_json(models, tmp_path: Path, capsys):
    picture = tmp_path / "a.png"
    Image.new("RGB", (40, 30), "white").save(picture)
    for words in (["caption"], ["read"], ["caption", "--detailed"]):
        assert entry([*words, str(picture), "--model", models[1]]) == 0
    assert entry(["ask", str(picture), "how many stars", "--model", models[1], "--json"]) == 0
    last = capsys.readouterr().out
    row = json.loads(last[last.index("[\n") :])[0]
    assert 0 <= row["score"] <= 1 and 0 <= row["confidence"] <= 1
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert entry(["caption", str(tmp_path / "broken.png"), "--model", models[1]]) == 4


def test_a_full_disk_leaves_no_part_of_a_picture(models, tmp_path: Path):
    """The process may write 100 bytes a file: the picture does not fit."""
    words = [sys.executable, "-m", "diptych", "generate", "a red star", "--model", models[0]]
    done = subprocess.run(
        [*words, "-o", str(tmp_path / "a.png")],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
    )
    assert done.returncode == 5 and "Cannot write" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_preview_is_drawn(tmp_path: Path):
    assert entry(["data", "preview", "scenes", "--count", "3", "-o", str(tmp_path / "s.png")]) == 0
    assert _width(tmp_path / "s.png") > 300


def _width(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.width


def test_a_solver_is_chosen_by_name_and_kept_in_the_picture(models, tmp_path: Path, capsys):
    def said(solver: str, output: Path) -> list[str]:
        return [
            "generate",
            "a red star",
            "--model",
            models[0],
            "--solver",
            solver,
            "-o",
            str(output),
        ]

    for name in ("unipc", "euler-ancestral"):
        a, b = tmp_path / f"{name}.png", tmp_path / "again.png"
        assert entry(said(name, a)) == 0 and recipe_of(a).solver == name
        assert entry(["generate", "--like", str(a), "--model", models[0], "-o", str(b)]) == 0
        assert a.read_bytes() == b.read_bytes()
    for option, value in (("--spacing", "beta"), ("--noise", "philox")):
        a, b = tmp_path / "one.png", tmp_path / "two.png"
        assert entry([*said("euler", a), option, value]) == 0
        assert value in (recipe_of(a).spacing, recipe_of(a).noise)
        assert entry(["generate", "--like", str(a), "--model", models[0], "-o", str(b)]) == 0
        assert a.read_bytes() == b.read_bytes()
        assert entry([*said("euler", b), option, "none such"]) == 3
    assert entry(said("unipx", tmp_path / "c.png")) == 3
    assert "'unipc'" in capsys.readouterr().err
    assert entry(said("lcm", tmp_path / "c.png")) == 2
    assert "training steps" in capsys.readouterr().err
    assert not (tmp_path / "c.png").exists()


def test_a_picture_is_painted_over_and_repeated(models, tmp_path: Path, capsys):
    a, b, c = (str(tmp_path / name) for name in ("a.png", "b.png", "c.png"))
    mask = tmp_path / "mask.png"
    Image.new("L", (32, 32), 255).save(mask)
    base = ["--model", models[0], "--steps", "4"]
    assert entry(["generate", "a red star", *base, "-o", a]) == 0
    asked = ["generate", "a blue moon", *base, "--init", a, "--mask", str(mask), "-o", b]
    assert entry(asked) == 0 and recipe_of(b).strength == 1.0 and recipe_of(b).mask
    again = ["generate", "--like", b, "--model", models[0], "-o", c]
    assert entry([*again, "--init", a, "--mask", str(mask)]) == 0
    assert Path(b).read_bytes() == Path(c).read_bytes()
    capsys.readouterr()
    assert entry(again) == 2 and "--init" in capsys.readouterr().err
    assert entry([*again, "--init", str(tmp_path / "none.png")]) == 3
    assert entry(["generate", "a red star", *base, "--strength", "0.5", "-o", c]) == 2
