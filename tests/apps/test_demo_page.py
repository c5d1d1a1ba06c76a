"""The page stands alone, and its curves and bars lie where the numbers say."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from diptych.apps.curve_svg import curve_svg
from diptych.apps.demo import Shown
from diptych.apps.demo_page import ModelRecord, write_page
from diptych.apps.score_table import score_table
from diptych.data.scenes.grammar import parse
from diptych.data.scenes.judge import judge
from diptych.imaging.pictures import to_square
from diptych.imaging.recipe import PictureRecipe
from diptych.pipelines.reference import SHIPPED, shipped_folder

SHARE = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 10}


def line_of(svg: str, kind: str) -> list[tuple[float, float]]:
    paths = ElementTree.fromstring(svg).findall(f"path[@class='{kind}']")
    numbers = [float(n) for n in re.findall(r"[\d.]+", paths[0].attrib["d"])]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


@pytest.mark.parametrize("losses", [[4.0, 2.0, 1.0, 0.1], [1.0, 0.9, 0.7, 0.6], [-1.0, -3.0]])
def test_a_curve_goes_right_with_the_step_and_down_with_the_loss(losses: list[float]):
    lines = [{"step": 20 * i, "loss": loss} for i, loss in enumerate(losses, 1)]
    lines.insert(1, {"step": 20, "probe": "tune", "right": 0.1})
    svg = curve_svg(lines)
    across, down = zip(*line_of(svg, "raw"), strict=True)
    assert list(across) == sorted(set(across)) and list(down) == sorted(set(down))
    _, _, width, height = map(float, ElementTree.fromstring(svg).attrib["viewBox"].split())
    assert all(0 <= x <= width and 0 <= y <= height for x, y in line_of(svg, "mean"))
    assert len(line_of(svg, "mean")) == len(losses)


def test_a_run_that_went_on_from_another_is_drawn_behind_it():
    first = [{"step": step, "loss": 1.0 / step} for step in (10, 20, 30)]
    whole = [{"step": step, "loss": 1.0 / (step % 30 or 30)} for step in (10, 20, 30, 40, 50)]
    assert curve_svg([*first, *first[:2]]) == curve_svg(whole)


def test_nothing_to_draw_draws_nothing():
    assert curve_svg([]) == curve_svg([{"step": 1, "loss": 2.0}]) == ""
    assert score_table({}) == score_table({"split": "heldout", "samples": {"captions": 5}}) == ""


def test_a_bar_is_as_long_as_its_share():
    table = score_table({"caption_exact": SHARE, "by_kind": {"<b>": SHARE}, "seconds": 3.0})
    assert table.count("width:50.0%") == 4  # the share, and the interval from 25 to 75
    assert table.count("left:25.0%") == 2 and table.count("25.0 to 75.0") == 2
    assert "captions" in table and "by kind" in table and "&lt;b&gt;" in table
    assert "seconds" not in table


def test_the_page_stands_alone_and_shows_every_shipped_model(tmp_path: Path):
    picture, prompt = Image.new("RGB", (64, 64), "white"), "a red circle"
    picture.info["recipe"] = PictureRecipe(
        prompt=prompt, negative_prompt="", seed=1, steps=2, guidance=1.0, shift=1.0, width=64,
        height=64, model="m", model_hash="0", version="0",
    )  # fmt: skip
    verdict = judge(to_square(picture, 64), parse(prompt))
    shown = [Shown(prompt, picture, "two < three", "how many?", "2", verdict)]
    models = [ModelRecord.of(shipped_folder(name)) for name in SHIPPED]
    write_page(tmp_path / "index.html", shown, models, steps=20)
    page = (tmp_path / "index.html").read_text()
    assert "two &lt; three" in page and "0 of 1 fully right" in page
    assert not re.findall(r"<script|<link|@import|url\(", page)
    assert all(kind == "data:image/png" for kind in re.findall(r'(?:src|href)="([^;"]*)', page))
    for name in SHIPPED:
        assert f"<h3>{name}</h3>" in page
    assert page.count("<svg") == sum(bool(curve_svg(model.log)) for model in models) >= 2
    assert page.count("<table>") == sum(bool(model.scores) for model in models) >= 2
