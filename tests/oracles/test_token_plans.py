"""Visual tokens counted as transformers counts them, on 2,000 sizes for each family."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava.processing_llava import LlavaProcessor
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string
from transformers.vision_utils import get_vision_window_index

from diptych.foundation.errors import InvalidValue
from diptych.imaging.plan import TokenPlan
from diptych.models.inputs import Spec, plan_of
from diptych.models.internvl.inputs import INTERNVL_3
from diptych.models.llava.inputs import LLAVA_1_5, LLAVA_NEXT, ONEVISION
from diptych.models.qwen_vl.inputs import QWEN2_VL, native, positions, windows
from diptych.models.smolvlm.inputs import IDEFICS_3, SMOLVLM

ANY = 10**6  # visual tokens: theirs know no limit
# Single pixels, and heights and widths whose unpadded rows are whole but for a rounding error.
EDGES = [(1, 1), (1, 5000), (5000, 1), (480, 640), (47, 1128), (55, 176), (88, 99), (376, 799)]
MARKS = ("<fake_token_around_image>", "<image>", "<global-img>")


def sizes(number: int = 2000, seed: int = 0) -> list[tuple[int, int]]:
    """Heights and widths: everyday ones, single pixels, ribbons, and multiples of tiles."""
    draw = random.Random(seed)
    sides: list[Callable[[], int]] = [
        lambda: draw.randint(1, 4000),
        lambda: draw.randint(1, 60),
        lambda: draw.choice([14, 28, 224, 336, 384, 448, 512]) * draw.randint(1, 6),
        lambda: round(2 ** draw.uniform(0, 13)),
    ]
    found = [(draw.choice(sides)(), draw.choice(sides)()) for _ in range(number - len(EDGES))]
    return [*found, *EDGES]


def bare(kind: type, **fields: Any) -> Any:
    """Their processor without a tokenizer."""
    made = object.__new__(kind)
    vars(made).update(fields)
    return made


def of_llava() -> Callable[[int, int], int]:
    made = bare(
        LlavaProcessor, patch_size=14, num_additional_image_tokens=1,
        vision_feature_select_strategy="default",
        image_processor=SimpleNamespace(crop_size={"height": 336, "width": 336}),
        _merge_kwargs=lambda: {"images_kwargs": {}},
    )  # fmt: skip
    return lambda h, w: made._get_num_multimodal_tokens([(h, w)]).num_image_tokens[0]


def of_llava_next() -> Callable[[int, int], int]:
    made = bare(
        LlavaNextProcessor, patch_size=14, num_additional_image_tokens=1,
        image_processor=LlavaNextImageProcessorPil(),
    )  # fmt: skip
    return lambda h, w: made._get_number_of_features(h, w, 336, 336) - 1  # without the class


def of_onevision() -> Callable[[int, int], int]:
    made = bare(
        LlavaOnevisionProcessor, num_image_tokens=729, vision_aspect_ratio="anyres_max_9",
        image_processor=LlavaOnevisionImageProcessorPil(),
    )  # fmt: skip
    return lambda h, w: made._get_number_of_features(h, w, 384, 384)


def of_internvl() -> Callable[[int, int], int]:
    size = {"height": 448, "width": 448}
    made = GotOcr2ImageProcessorPil(size=size, crop_to_patches=True, max_patches=12)
    return lambda h, w: 256 * made.get_number_of_image_patches(h, w, {"patch_size": size})


def of_qwen(**settings: int) -> Callable[[int, int], int]:
    made = Qwen2VLImageProcessorPil(**settings)
    return lambda h, w: made.get_number_of_image_patches(h, w) // 4


def of_split(made: Any, each: int) -> Callable[[int, int], int]:
    def count(height: int, width: int) -> int:
        tiles, _, _ = made.get_number_of_image_patches(height, width)
        return each * (tiles or 1)

    return count


def smolvlm() -> Any:
    longest, tile = {"longest_edge": 2048}, {"longest_edge": 512}
    return SmolVLMImageProcessorPil(size=longest, max_image_size=tile)


FAMILIES: dict[str, tuple[Spec, Callable[[], Callable[[int, int], int]]]] = {
    "llava": (LLAVA_1_5, of_llava),
    "llava-next": (LLAVA_NEXT, of_llava_next),
    "onevision": (ONEVISION, of_onevision),
    "internvl": (INTERNVL_3, of_internvl),
    "qwen": (QWEN2_VL, of_qwen),
    # So few pixels that the shorter side of a ribbon is held at one token.
    "qwen, small": (replace(QWEN2_VL, max_pixels=40000), lambda: of_qwen(max_pixels=40000)),
    "smolvlm": (SMOLVLM, lambda: of_split(smolvlm(), 64)),
    "idefics3": (IDEFICS_3, lambda: of_split(Idefics3ImageProcessorPil(), 169)),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_counts(family: str):
    spec, theirs = FAMILIES[family]
    count, found = theirs(), 0
    for height, width in sizes():
        try:
            ours = plan_of(height, width, replace(spec, max_visual_tokens=ANY)).count()
        except InvalidValue:
            with pytest.raises(ValueError, match="aspect ratio"):
                count(height, width)
            continue
        assert ours == count(height, width), (height, width)
        found += 1
    assert found > 1500


def test_the_words_around_the_tiles():
    made = smolvlm()
    for height, width in sizes(300, seed=1):
        _, rows, columns = made.get_number_of_image_patches(height, width)
        plan = plan_of(height, width, replace(SMOLVLM, max_visual_tokens=ANY))
        fence, image, whole = MARKS
        assert plan.text(image) == get_image_prompt_string(rows, columns, 64, fence, image, whole)
    one = plan_of(480, 640, replace(SMOLVLM, split=False)).text("<image>")
    fence, image, whole = MARKS
    assert one == get_image_prompt_string(0, 0, 64, fence, image, whole)


def shown(seed: int) -> tuple[list[int], list[TokenPlan]]:
    """Words and pictures in turn, as ids: 7 is a placeholder."""
    draw = random.Random(seed)
    tokens, plans = list[int](), list[TokenPlan]()
    for _ in range(draw.randint(1, 4)):
        tokens += [draw.randint(10, 90) for _ in range(draw.randint(1, 9))]
        plans.append(native(draw.randint(20, 400), draw.randint(20, 400), QWEN2_VL))
        tokens += [7] * plans[-1].count()
    return tokens + [9] * draw.randint(0, 5), plans


@pytest.mark.parametrize("seed", range(40))
def test_positions(seed: int):
    tokens, plans = shown(seed)
    spatial = SimpleNamespace(spatial_merge_size=2)
    made: Any = bare(Qwen2VLModel, config=SimpleNamespace(vision_config=spatial))
    grids = torch.tensor([[1, plan.resized[1] // 14, plan.resized[0] // 14] for plan in plans])
    ids = torch.tensor([tokens])
    wanted, delta = Qwen2VLModel.get_rope_index(made, ids, (ids == 7).int(), image_grid_thw=grids)
    ours, ours_delta = positions(tokens, plans, 7)
    assert torch.equal(ours, wanted[:, 0]) and ours_delta == int(delta)


@pytest.mark.parametrize("seed", range(40))
def test_windows(seed: int):
    draw = random.Random(seed)
    grids = [(draw.randint(1, 30), draw.randint(1, 30)) for _ in range(draw.randint(1, 4))]
    grids += [(4, 8), (1, 1)]
    theirs = get_vision_window_index(
        torch.tensor([[1, 2 * rows, 2 * columns] for rows, columns in grids]), 2, 112, 14
    )
    order, borders = windows(grids, QWEN2_VL)
    assert torch.equal(order, theirs[0])
    assert torch.equal(borders, theirs[1]) and borders.dtype == theirs[1].dtype
