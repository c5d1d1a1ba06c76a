"""Plans: what holds for every family and every size, and what pixels say about them."""

from __future__ import annotations

import random
from dataclasses import replace
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diptych.foundation.errors import InvalidValue
from diptych.imaging.pixels import Preprocess, opened, placed, tiles_of
from diptych.imaging.plan import Newline, Rows, Text, TokenPlan
from diptych.models.inputs import PictureInputs, Spec, plan_of, shown
from diptych.models.internvl.inputs import INTERNVL_3
from diptych.models.llava.inputs import (
    BLIP_2,
    FLORENCE_2,
    LLAVA_1_5,
    LLAVA_1_5_PADDED,
    LLAVA_NEXT,
    ONEVISION,
    FixedSpec,
)
from diptych.models.paligemma.inputs import PALIGEMMA_224, PALIGEMMA_448, PALIGEMMA_896
from diptych.models.qwen_vl.inputs import QWEN2_VL, NativeSpec, positions
from diptych.models.smolvlm.inputs import IDEFICS_3, SMOLVLM

SPECS: dict[str, Spec] = {
    "llava": LLAVA_1_5,
    "llava, padded": LLAVA_1_5_PADDED,
    "llava-next": LLAVA_NEXT,
    "onevision": ONEVISION,
    "blip-2": BLIP_2,
    "florence-2": FLORENCE_2,
    "paligemma-448": PALIGEMMA_448,
    "internvl": INTERNVL_3,
    "qwen": QWEN2_VL,
    "smolvlm": SMOLVLM,
    "smolvlm, whole": replace(SMOLVLM, split=False),
    "idefics3": IDEFICS_3,
}
PLAIN = Preprocess(filter="bicubic", mean=(0.0, 0.0, 0.0), deviation=(1.0, 1.0, 1.0), rescale=1.0)
SIDES = st.integers(1, 4000) | st.integers(1, 40) | st.sampled_from([336, 448, 512, 672, 5000])
NAMES = st.sampled_from(sorted(SPECS))


def plan_or_none(height: int, width: int, spec: Spec) -> TokenPlan | None:
    """None for Qwen's ribbons, which are refused."""
    try:
        return plan_of(height, width, spec)
    except InvalidValue:
        assert isinstance(spec, NativeSpec) and max(height, width) > 200 * min(height, width)
        return None


@settings(max_examples=300, deadline=None)
@given(NAMES, SIDES, SIDES)
def test_count_is_embeddings_is_placeholders(name: str, height: int, width: int):
    plan = plan_or_none(height, width, SPECS[name])
    if plan is None:
        return
    text = plan.text("@")
    assert plan.count() == text.count("@") > 0
    assert text.replace("@", "") == "".join(
        part.text for part in plan.segments if isinstance(part, Text)
    )
    assert plan.count() <= 1280
    runs = plan.runs()
    assert all(type(a) is not type(b) for a, b in pairwise(runs))


@settings(max_examples=300, deadline=None)
@given(NAMES, SIDES, SIDES)
def test_every_tile_is_read_once_and_the_grid_whole(name: str, height: int, width: int):
    plan = plan_or_none(height, width, SPECS[name])
    if plan is None:
        return
    parts = [part for part in plan.segments if isinstance(part, Rows)]
    own = [part.tile for part in parts if part.tile is not None]
    lines = sum(part.rows for part in parts if part.tile is None)
    if plan.grid is None:
        assert sorted(set(own)) == list(range(len(plan.tiles)))
        return
    assert own == [0] and lines == plan.grid.rows
    assert sum(isinstance(part, Newline) for part in plan.segments) == lines
    left, top, right, bottom = plan.grid.box
    assert left == plan.grid.width - right and top == plan.grid.height - bottom
    assert plan.grid.rows <= bottom - top and plan.grid.columns <= right - left


@settings(max_examples=200, deadline=None)
@given(NAMES, SIDES, SIDES)
def test_tiles_cover_the_resized_picture_once(name: str, height: int, width: int):
    plan = plan_or_none(height, width, SPECS[name])
    if plan is None:
        return
    seen = np.zeros(plan.resized[::-1], np.uint8)
    for tile in plan.tiles:
        left, top, right, bottom = tile.box
        if tile.of == "cut":
            seen[top:bottom, left:right] += 1
        else:
            assert tile.box == (0, 0, *plan.resized)
    assert (seen == 1).all()


@settings(max_examples=300, deadline=None)
@given(NAMES, SIDES, SIDES, st.randoms(use_true_random=False))
def test_boxes_come_back(name: str, height: int, width: int, draw: random.Random):
    plan = plan_or_none(height, width, SPECS[name])
    if plan is None:
        return
    shown_part = plan.source_region((0, 0, *plan.resized))
    x = sorted(draw.uniform(shown_part[0], shown_part[2]) for _ in range(2))
    y = sorted(draw.uniform(shown_part[1], shown_part[3]) for _ in range(2))
    box = (x[0], y[0], x[1], y[1])
    back = plan.source_region(plan.placing.canvas_region(box))
    assert np.abs(np.subtract(back, box)).max() <= 1e-6 * max(width, height)
    out = plan.source_region((-1e9, -1e9, 1e9, 1e9))
    assert out == (0.0, 0.0, float(width), float(height))


@pytest.mark.parametrize("name", sorted(SPECS))
def test_a_square_is_found_where_the_plan_says(name: str):
    """A white square is painted, the picture resized as the plan says, and the square found in
    the pixels: mapped back it is the painted one, to a pixel of the coarser of both."""
    draw = random.Random(0)
    for width, height in [(640, 480), (301, 777), (900, 150), (64, 64)]:
        plan = plan_of(height, width, SPECS[name])
        left, top, right, bottom = map(round, plan.source_region((0, 0, *plan.resized)))
        side = min(right - left, bottom - top) // 2
        x, y = draw.randint(left + 1, right - side - 1), draw.randint(top + 1, bottom - side - 1)
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[y : y + side, x : x + side] = 255
        canvas = np.asarray(placed(Image.fromarray(pixels), plan.placing, PLAIN))[..., 0] > 127
        rows, columns = canvas.any(1).nonzero()[0], canvas.any(0).nonzero()[0]
        found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        off = np.subtract(plan.source_region(found), (x, y, x + side, y + side))
        coarse = max(1.0, plan.to_source.scale_x, plan.to_source.scale_y)
        assert np.abs(off).max() <= coarse, (width, height)


@pytest.mark.parametrize("name", sorted(SPECS))
@pytest.mark.parametrize("size", [(1, 1), (1, 150), (150, 1), (2, 333), (3000, 40)])
def test_ribbons_have_pixels(name: str, size: tuple[int, int]):
    (width, height), spec = size, SPECS[name]
    plan, numbers = shown(Image.new("RGB", size, "red"), PictureInputs(spec=spec, pixels=PLAIN))
    if spec == QWEN2_VL:
        assert len(numbers) == 4 * plan.count()
    else:
        assert numbers.shape == (len(plan.tiles), 3, *plan.tile[::-1])
    assert numbers.max() > 50 and plan.picture == (width, height)


def test_a_ribbon_that_would_fill_the_memory_is_refused():
    plan = plan_of(60000, 1, LLAVA_1_5)
    with pytest.raises(InvalidValue, match=r"1 x 60000 pixels is too narrow.*336 x 20160000"):
        tiles_of(Image.new("RGB", (1, 60000)), plan, PLAIN)
    with pytest.raises(InvalidValue, match=r"more than 200 times.*up to 3 pixels"):
        plan_of(1, 402, QWEN2_VL)
    assert plan_of(2, 400, QWEN2_VL).count() > 0
    with pytest.raises(InvalidValue, match="no picture of 0 x 7"):
        plan_of(7, 0, SMOLVLM)


LEAST = {"llava-next": 577, "onevision": 730, "internvl": 256, "qwen": 1, "smolvlm": 64}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(LEAST)), SIDES, SIDES, st.integers(0, 3000))
def test_the_limit_lowers_the_resolution(name: str, height: int, width: int, most: int):
    spec = replace(SPECS[name], max_visual_tokens=10**6)
    free = plan_or_none(height, width, spec)
    if free is None:
        return
    limited = replace(spec, max_visual_tokens=most)
    if most < min(LEAST[name], free.count()):
        with pytest.raises(InvalidValue, match="Set max_visual_tokens to") as caught:
            plan_of(height, width, limited)
        fits = int(caught.value.do.split()[-1].rstrip("."))
        assert fits > most
        assert plan_of(height, width, replace(spec, max_visual_tokens=fits)).count() <= fits
        return
    plan = plan_of(height, width, limited)
    assert plan.count() <= most and plan.lowered == (free.count() > most)
    assert plan.lowered or plan == free
    assert ("by max_visual_tokens" in plan.said()) == plan.lowered


@pytest.mark.parametrize("most", [1, 2, 30, 100, 150])
def test_a_ribbon_gives_way_along_its_longer_side(most: int):
    """Its shorter side is one token already."""
    for height, width in [(30, 5900), (5900, 30), (400, 400)]:
        plan = plan_of(height, width, replace(QWEN2_VL, max_visual_tokens=most))
        assert (
            most / 2 <= plan.count() <= most and plan.resized[0] % 28 == plan.resized[1] % 28 == 0
        )


def test_what_has_one_size_names_what_fits():
    with pytest.raises(InvalidValue, match="Set max_visual_tokens to 576"):
        plan_of(10, 10, replace(LLAVA_1_5, max_visual_tokens=575))
    with pytest.raises(InvalidValue, match="at least 4096"):
        plan_of(10, 10, replace(PALIGEMMA_896, max_visual_tokens=1280))


def test_published_counts():
    """Numbers of the papers and model cards."""
    sizes = [LLAVA_1_5, BLIP_2, FLORENCE_2, PALIGEMMA_224, PALIGEMMA_448, PALIGEMMA_896]
    assert [plan_of(480, 640, spec).count() for spec in sizes] == [576, 32, 577, 256, 1024, 4096]
    assert plan_of(480, 640, SMOLVLM).count() == 832 and plan_of(512, 512, SMOLVLM).count() == 1088
    assert plan_of(480, 640, QWEN2_VL).count() == 391 and len(plan_of(1, 1, INTERNVL_3).tiles) == 1
    large = plan_of(3000, 4000, QWEN2_VL)
    assert large.resized == (1148, 840) and large.count() == 1230


def test_a_mismatch_says_which_picture_and_what_was_planned():
    plan = plan_of(480, 640, SMOLVLM)
    plan.check(832, index=2, what="placeholders")
    words = r"Picture 2 \(640 x 480 pixels\) is planned as 2048 x 1536, 13 tiles of 512 x 512: 832 "
    with pytest.raises(InvalidValue, match=words + "visual tokens; found were 831 placeholders"):
        plan.check(831, index=2, what="placeholders")


def test_positions_by_hand():
    """A picture of 2 x 3 tokens between words: the example of the M-RoPE section."""
    plan = plan_of(56, 84, QWEN2_VL)
    found, delta = positions([1, 95, *[97] * 6, 96, 5, 6], [plan], 97)
    assert found.tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6, 7],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6, 7],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 7],
    ]
    assert delta == -3
    wrong = [([97] * 5, [plan]), ([97] * 7, [plan]), ([1], [plan]), ([97] * 6 + [1], [plan, plan])]
    for tokens, plans in wrong:
        with pytest.raises(InvalidValue, match="laceholders"):
            positions(tokens, plans, 97)


def jpeg(width: int, height: int, orientation: int = 1) -> bytes:
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 / width, y * 255 / height, 128 + 100 * np.sin(x / 9)], -1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(content, "jpeg", quality=95, exif=exif)
    return content.getvalue()


@pytest.mark.parametrize("name", ["llava", "llava, padded", "llava-next"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_fast_is_labelled_smaller_and_nearly_the_same(name: str, orientation: int):
    content, spec = jpeg(2800, 1500, orientation), SPECS[name]
    fast = replace(PLAIN, fast=True)
    picture, plan = opened(content, lambda h, w: plan_of(h, w, spec), fast)
    assert 2 * picture.width <= plan.picture[0] and 2 * picture.height <= plan.picture[1]
    exact_plan, exact = shown(content, PictureInputs(spec=spec, pixels=PLAIN))
    assert exact_plan == plan and plan.picture == (
        (2800, 1500) if orientation == 1 else (1500, 2800)
    )
    _, near = shown(content, PictureInputs(spec=spec, pixels=fast))
    off = (near - exact).abs()
    assert off.max() > 0 and off.mean() < 1.5


def test_a_picture_of_another_size_than_planned_is_refused():
    plan = plan_of(100, 100, LLAVA_1_5)
    half = Image.new("RGB", (50, 50))
    for how in (PLAIN, replace(PLAIN, fast=True)):
        with pytest.raises(InvalidValue, match="99 x 100 was planned as 100 x 100"):
            tiles_of(Image.new("RGB", (99, 100)), plan, how)
    with pytest.raises(InvalidValue, match="50 x 50 was planned"):
        tiles_of(half, plan, PLAIN)
    assert tiles_of(half, plan, replace(PLAIN, fast=True)).shape == (1, 3, 336, 336)


def test_settings_that_cannot_be():
    with pytest.raises(InvalidValue, match="Set shortest to 224"):
        FixedSpec(width=224, height=224, rows=1, columns=1, fit="middle", shortest=200)
    with pytest.raises(InvalidValue, match="shortest goes with"):
        FixedSpec(width=224, height=224, rows=1, columns=1, shortest=224)
    with pytest.raises(InvalidValue, match="no multiple of tiles"):
        replace(SMOLVLM, longest=2000)
    with pytest.raises(InvalidValue, match="no multiple of tiles"):
        replace(LLAVA_NEXT, pinpoints=((336, 500),))
    with pytest.raises(InvalidValue, match="no numbers"):
        replace(INTERNVL_3, fewest=13)
    with pytest.raises(InvalidValue, match="above 0"):
        replace(PLAIN, deviation=(1.0, 0.0, 1.0))
