"""Places that models write come back as boxes of the original picture, whatever was done to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.cli.ground import drawn
from diptych.cli.main import entry
from diptych.foundation.errors import InvalidValue
from diptych.imaging.pictures import read_picture
from diptych.imaging.placing import Region
from diptych.imaging.plan import TokenPlan
from diptych.models.inputs import plan_of
from diptych.models.llava.inputs import FLORENCE_2, FixedSpec
from diptych.models.qwen_vl.inputs import NativeSpec
from diptych.pipelines.grounding import DIALECTS, Grounded, grounded
from diptych.pipelines.reader_front import ImageToText
from tests.tiny_captioners import folder as captioner_folder
from tests.tiny_vlm import folder as vlm_folder

NATIVE = NativeSpec(
    patch=14, merge=2, copies=2, min_pixels=56 * 56, max_pixels=28 * 28 * 1280,
    max_visual_tokens=1280,
)  # fmt: skip
SQUARE = FixedSpec(width=224, height=224, rows=16, columns=16)
SPECS = {"florence2": FLORENCE_2, "paligemma": SQUARE, "qwen2_vl": NATIVE, "qwen2_5_vl": NATIVE}


def _bins(box: Region, parts: int, plan: TokenPlan) -> list[int]:
    width, height = plan.resized
    left, top, right, bottom = plan.placing.canvas_region(box)
    sizes = (width, height, width, height)
    return [
        min(parts - 1, int(value * parts / size))
        for value, size in zip((left, top, right, bottom), sizes, strict=True)
    ]


def _florence(label: str, box: Region, plan: TokenPlan) -> str:
    return "</s><s>" + label + "".join(f"<loc_{n}>" for n in _bins(box, 1000, plan)) + "</s>"


def _paligemma(label: str, box: Region, plan: TokenPlan) -> str:
    left, top, right, bottom = _bins(box, 1024, plan)
    return "".join(f"<loc{n:04d}>" for n in (top, left, bottom, right)) + f" {label}"


def _qwen2(label: str, box: Region, plan: TokenPlan) -> str:
    left, top, right, bottom = _bins(box, 1000, plan)
    named = f"<|object_ref_start|>{label}<|object_ref_end|>"
    return f"{named}<|box_start|>({left},{top}),({right},{bottom})<|box_end|>"


def _qwen25(label: str, box: Region, plan: TokenPlan) -> str:
    places = [round(value) for value in plan.placing.canvas_region(box)]
    return f"```json\n{json.dumps([{'bbox_2d': places, 'label': label}])}\n```"


WRITTEN: dict[str, tuple[Callable[[str, Region, TokenPlan], str], float]] = {
    "florence2": (_florence, 0.5 / 1000), "paligemma": (_paligemma, 1 / 1024),
    "qwen2_vl": (_qwen2, 1 / 1000), "qwen2_5_vl": (_qwen25, 0.5 / 224),
}  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("size", [(640, 480), (123, 457), (2000, 300)])
def test_boxes_come_back(name: str, size: tuple[int, int]) -> None:
    """Within a step of the numbers that the family writes, in pixels of the original."""
    plan = plan_of(size[1], size[0], SPECS[name])
    width, height = size
    boxes = [
        (0.1 * width, 0.2 * height, 0.55 * width, 0.9 * height),
        (0.62 * width, 0.05 * height, width - 0.01, 0.3 * height),
    ]
    write, step = WRITTEN[name]
    text = " ; ".join(write(f"thing {i}", box, plan) for i, box in enumerate(boxes))
    if name == "qwen2_5_vl":
        step = 0.5 / min(plan.resized)
    found = grounded(text, DIALECTS[name], plan)
    assert len(found) == 2
    for i, (one, box) in enumerate(zip(found, boxes, strict=True)):
        assert one.label.strip(" ;") == f"thing {i}"
        assert one.box is not None
        for got, wanted, side in zip(one.box, box, (*size, *size), strict=True):
            assert abs(got - wanted) <= step * side + 1e-6


def test_points_and_several_boxes_of_a_phrase() -> None:
    plan = plan_of(400, 200, NATIVE)
    text = "<|object_ref_start|>eye<|object_ref_end|><|box_start|>(250,500)<|box_end|>"
    (one,) = grounded(text, DIALECTS["qwen2_vl"], plan)
    assert one.box is None and one.point is not None
    assert one.point == pytest.approx((50.0, 200.0))
    said = '[{"point_2d": [14, 28], "label": "eye"}, {"bbox_2d": [1, 2'  # cut off
    (one,) = grounded(said, DIALECTS["qwen2_5_vl"], plan)
    x, y = plan.to_source.point(14, 28)
    assert one.point == pytest.approx((x, y))
    bins = "".join(f"<loc_{n}>" for n in (0, 0, 499, 499, 500, 500, 999, 999))
    found = grounded(f"stars{bins}", DIALECTS["florence2"], plan_of(100, 100, FLORENCE_2))
    assert [one.label for one in found] == ["stars", "stars"]
    assert found[1].box == pytest.approx((50.05, 50.05, 99.95, 99.95))


@pytest.mark.parametrize("name", DIALECTS)
def test_talk_is_no_place(name: str) -> None:
    plan = plan_of(100, 100, SPECS[name])
    for text in ("", "there is none", "<loc_1><loc_2>", "<|box_start|>x<|box_end|>", '{"a": 1}'):
        assert grounded(text, DIALECTS[name], plan) == []


def test_boxes_are_clipped_and_ordered() -> None:
    plan = plan_of(56, 56, NATIVE)
    text = '{"bbox_2d": [90, 40, -5, 10], "label": "x"}'
    (one,) = grounded(text, DIALECTS["qwen2_5_vl"], plan)
    assert one.box == pytest.approx((0, 10, 56, 40))


@pytest.mark.parametrize("name", ["florence2", "paligemma", "qwen2_vl"])
def test_models_are_asked(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Random weights name no places; the whole way runs, and the picture is written."""
    make = captioner_folder if name == "florence2" else vlm_folder
    folder = make(name, tmp_path / name)
    path, out = tmp_path / "a.png", tmp_path / "b.png"
    Image.new("RGB", (40, 30), (9, 9, 9)).save(path)
    reader = ImageToText.load(str(folder))
    assert isinstance(reader.ground(path, "a star"), list)
    with pytest.raises(InvalidValue, match="no words"):
        reader.ground(path, " ")
    told = ["ground", str(path), "a star", "--model", str(folder), "--json", "-o", str(out)]
    assert entry(told) == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)
    assert read_picture(out).size == (40, 30)


def test_a_model_without_places_is_refused(tmp_path: Path) -> None:
    reader = ImageToText.load("scenes-i2t")
    with pytest.raises(InvalidValue, match="does not say where"):
        reader.ground(Image.new("RGB", (64, 64)), "a star")


def test_boxes_are_drawn_inside() -> None:
    made = np.asarray(drawn(Image.new("RGB", (20, 10)), [Grounded("x", box=(2, 3, 12, 8))]))
    red = made[..., 0] > 0
    assert red[3, 2:12].all() and red[7, 2:12].all() and red[3:8, 2].all() and red[3:8, 11].all()
    assert red.sum() == 2 * 10 + 2 * 3
