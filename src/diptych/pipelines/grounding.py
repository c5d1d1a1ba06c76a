"""Where things are: what a model writes of places, as boxes and points of the original picture.

Each family writes places in its own way; a way is a row of `DIALECTS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from diptych.imaging.placing import Region
from diptych.imaging.plan import TokenPlan

# What a text says of places, in numbers of its own: a label, and two or four of them, x first.
Said = Iterator[tuple[str, tuple[float, ...]]]


@dataclass(frozen=True)
class Grounded:
    """A thing by its words, and its `box` (left, top, right, bottom) or its `point` (x, y) in
    pixels of the original picture, edges counted from 0."""

    label: str
    box: Region | None = None
    point: tuple[float, float] | None = None


@dataclass(frozen=True)
class Dialect:
    """`ask`: the sentence, with `{}` for the words. `said`: reads an answer. `parts`: of how many
    a side is counted in, 0 for pixels of the resized picture; a number stands for the part's
    `middle`, as a share of it, or for its edge (0)."""

    ask: str
    said: Callable[[str], Said]
    parts: int
    middle: float = 0.0


def grounded(text: str, dialect: Dialect, plan: TokenPlan) -> list[Grounded]:
    """The things that an answer names, in its order; boxes are clipped to the picture. What is no
    place is passed over: models also talk."""
    width, height = plan.resized
    across = width / dialect.parts if dialect.parts else 1.0
    down = height / dialect.parts if dialect.parts else 1.0
    found = list[Grounded]()
    for label, numbers in dialect.said(text):
        moved = [number + dialect.middle for number in numbers]
        spread = [value * (down if i % 2 else across) for i, value in enumerate(moved)]
        if len(spread) == 2:
            x, y = spread
            left, top, _, _ = plan.source_region((x, y, x, y))
            found.append(Grounded(label, point=(left, top)))
        else:
            (x, x2), (y, y2) = sorted(spread[::2]), sorted(spread[1::2])
            found.append(Grounded(label, box=plan.source_region((x, y, x2, y2))))
    return found


_BINS = re.compile(r"([^<>]*)((?:<loc_\d+>){4,})")
_SEQUENCE = re.compile(r"</?(?:s|pad|poly|od|/od|ocr|grounding|ground|obj|sep)>")


def _florence(text: str) -> Said:
    """`phrase<loc_x><loc_y><loc_x><loc_y>`, one phrase perhaps with several boxes."""
    for label, run in _BINS.findall(_SEQUENCE.sub("", text)):
        numbers = [float(number) for number in re.findall(r"\d+", run)]
        for at in range(0, len(numbers) - 3, 4):
            yield label.strip(), tuple(numbers[at : at + 4])


_LOCATED = re.compile(r"((?:<loc\d{4}>){4})\s*([^<>;]*)")


def _paligemma(text: str) -> Said:
    """`<locYYYY><locXXXX><locYYYY><locXXXX> label ; ...`: rows come first."""
    for run, label in _LOCATED.findall(text):
        top, left, bottom, right = (float(number) for number in re.findall(r"\d{4}", run))
        yield label.strip(), (left, top, right, bottom)


_BOXED = re.compile(
    r"(?:<\|object_ref_start\|>(?P<label>.*?)<\|object_ref_end\|>)?"
    r"\s*<\|box_start\|>(?P<run>.*?)<\|box_end\|>",
    re.DOTALL,
)


def _qwen2(text: str) -> Said:
    """`<|object_ref_start|>label<|object_ref_end|><|box_start|>(x,y),(x,y)<|box_end|>`; one pair
    is a point."""
    for found in _BOXED.finditer(text):
        numbers = tuple(float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", found["run"]))
        if len(numbers) in (2, 4):
            yield (found["label"] or "").strip(), numbers


_OBJECTS = re.compile(r"\{[^{}]*\}", re.DOTALL)


def _qwen25(text: str) -> Said:
    """Objects of JSON with `bbox_2d` or `point_2d`, and `label`, in pixels; each is read by itself,
    for a list may be cut off."""
    for part in _OBJECTS.findall(text):
        try:
            one = cast("dict[str, Any]", json.loads(part))
        except ValueError:
            continue
        for key, count in (("bbox_2d", 4), ("point_2d", 2)):
            numbers: Any = one.get(key)
            if not isinstance(numbers, list):
                continue
            values = cast("list[Any]", numbers)
            if len(values) == count and all(isinstance(value, int | float) for value in values):
                yield str(one.get("label", "")), tuple(float(value) for value in values)


# Florence-2: Xiao et al., 2024, 1000 bins, read at their middles; PaliGemma: Beyer et al., 2024,
# 1024 shares, rows first; Qwen2-VL: Wang et al., 2024, 0 to 999; Qwen2.5-VL: Bai et al., 2025,
# pixels of the resized picture.
DIALECTS: dict[str, Dialect] = {
    "florence2": Dialect("Locate the phrases in the caption: {}", _florence, 1000, 0.5),
    "paligemma": Dialect("detect {}", _paligemma, 1024),
    "qwen2_vl": Dialect("Find {} and give its bounding box.", _qwen2, 1000),
    "qwen2_5_vl": Dialect("Locate {}, output its bbox coordinates in JSON format.", _qwen25, 0),
}
