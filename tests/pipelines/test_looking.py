"""Larger than trained, and alike: neutral options change no bit, windows are what they say, and a
picture that looks at itself is itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from diptych.engine.painting import PaintingEngine
from diptych.foundation.errors import InvalidValue
from diptych.models.unet import UNet, UNetConfig
from diptych.models.unet_blocks import Attention, DownBlock, Sight
from diptych.models.unet_looks import (
    SHIFTS,
    OwnLook,
    finest_attentions,
    from_windows,
    own_attentions,
    windows,
)
from diptych.nn.reuse import DeepCache
from diptych.pipelines.looking import Consistent, HiDiffusion
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.painting import Extras, Request
from diptych.pipelines.steering import Control
from diptych.pipelines.text_to_image import paint
from diptych.pipelines.tiles import Tiling
from tests.tiny_models import tiny_painter
from tests.tiny_stable_diffusion import tiny_control, tiny_file

AT = {"width": 16, "height": 32, "steps": 4}
WORDS = ["a cat on a mat", "a dog on a mat"]


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def model(request, tmp_path_factory: pytest.TempPathFactory) -> TextToImage:
    family = request.param
    path = tiny_file(tmp_path_factory.mktemp(family) / "tiny.safetensors", family)
    return TextToImage.load(str(path))


def unet_of(model: TextToImage) -> UNet:
    unet = model.networks.modules()[0]
    assert isinstance(unet, UNet)
    return unet


def pixels(said) -> list[np.ndarray]:
    return [np.asarray(one).astype(int) for one in (said if isinstance(said, list) else [said])]


@pytest.mark.parametrize("cells", [(4, 6), (8, 8), (10, 16), (16, 24), (2, 2)])
@pytest.mark.parametrize("shift", range(SHIFTS))
def test_windows_part_a_picture_and_make_it_again(cells: tuple[int, int], shift: int):
    height, width = cells
    numbers = torch.arange(2 * 3 * height * width * 5.0).view(2, 3, height * width, 5)
    parts = windows(numbers, cells, shift)
    assert parts.shape == (8, 3, height * width // 4, 5)
    assert torch.equal(from_windows(parts, cells, shift), numbers)
    # The first window, as it lies in the picture.
    grid = numbers[0, 0].unflatten(0, cells)
    top, left = shift * (height // 8), shift * (width // 8)
    rows = [(top + i) % height for i in range(height // 2)]
    columns = [(left + i) % width for i in range(width // 2)]
    assert torch.equal(parts[0, 0], grid[rows][:, columns].flatten(0, 1))


@torch.inference_mode()
def test_in_windows_nothing_is_seen_beyond_them():
    torch.manual_seed(0)
    attention = Attention(16, 2, 16).double()
    cells, h = (4, 8), torch.randn(2, 32, 16, dtype=torch.float64)
    look = OwnLook(windowed=frozenset([attention]))
    grid = h.unflatten(1, cells)
    for top, left in ((0, 0), (0, 4), (2, 0), (2, 4)):
        part = grid[:, top : top + 2, left : left + 4].flatten(1, 2)
        said = look(attention, h, cells).unflatten(1, cells)
        alone = attention(part, part)
        found = said[:, top : top + 2, left : left + 4].flatten(1, 2)
        assert torch.allclose(found, alone, rtol=0, atol=1e-12)
    plain = OwnLook()(attention, h, cells)
    assert torch.equal(plain, attention(h, h))
    other = OwnLook(mutual=frozenset([attention]), sources=[1, 1])(attention, h, cells)
    assert torch.allclose(other[0], attention(h[:1], h[1:])[0], rtol=0, atol=1e-12)
    assert torch.allclose(other[1], plain[1], rtol=0, atol=1e-12)


@torch.inference_mode()
@pytest.mark.parametrize("size", [(16, 24), (13, 9)])
def test_coarse_is_a_kernel_with_holes(model: TextToImage, size: tuple[int, int]):
    """Stride 4 and dilation 2, with the weights that were trained for stride 2."""
    unet = unet_of(model)
    block, config = unet.down_blocks[0], unet.config
    assert isinstance(block, DownBlock)
    torch.manual_seed(0)
    x, time = torch.randn(2, config.widths[0], *size), torch.randn(2, config.time_width)
    words = torch.randn(2, 5, config.context_width)
    *_, before, found = block(x, time, words, coarse=True)
    conv = block.downsamplers[0].conv
    wanted = conv2d(before, conv.weight, conv.bias, stride=4, padding=2, dilation=2)
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5)
    assert torch.equal(block(x, time, words)[0], block(x, time, words, coarse=True)[0])


@torch.inference_mode()
def test_the_first_level_alone_is_coarse():
    unet = UNet(UNetConfig.tiny(widths=(32, 32, 32), depths=(1, 0, 0), heads=(4, 4, 4)))
    x, t, words = torch.randn(1, 4, 32, 16), torch.tensor([9.0]), torch.randn(1, 5, 32)
    seen = {one: one.look(words) for one in unet.attentions()}
    states = unet.encode(unet.conv_in(x), unet.times(t, None), Sight(seen, OwnLook(), True))
    assert [one.shape[2] for one in states] == [32, 32, 8, 8, 4, 4]
    assert unet(x, t, Sight(seen, OwnLook(), True)).shape == x.shape
    assert torch.equal(unet(x, t, Sight(seen, OwnLook())), unet(x, t, words))


def test_neutral_options_change_no_bit(model: TextToImage):
    plain = pixels(model(WORDS, seed=[3, 3], **AT))
    for neutral in (
        {"hidiffusion": HiDiffusion(0.0, windows=False)},
        {"consistent": Consistent(step=1000)},
    ):
        said = pixels(model(WORDS, seed=[3, 3], **AT, **neutral))
        assert all(np.array_equal(a, b) for a, b in zip(plain, said, strict=True))


@pytest.mark.parametrize(
    "large", [HiDiffusion(), HiDiffusion(1.0, windows=False), HiDiffusion(0.0)]
)
def test_a_large_picture_is_another_and_says_so(model: TextToImage, large: HiDiffusion):
    plain, said = model("a cat", **AT), model("a cat", **AT, hidiffusion=large)
    assert said.size == plain.size and not np.array_equal(*pixels([plain, said]))
    assert said.info["recipe"].hidiffusion == str(large)


def test_the_levels_below_see_a_quarter_until_a_share_of_the_way(model: TextToImage):
    sides: list[tuple[int, ...]] = []
    hook = unet_of(model).mid_block.register_forward_hook(
        lambda _, seen, out: sides.append(tuple(out.shape[2:]))
    )
    try:
        model("a cat", **AT, solver="ddim", hidiffusion=HiDiffusion(0.5))
    finally:
        hook.remove()
    assert sides == [(4, 2)] * 2 + [(8, 4)] * 2  # of 16 x 8 cells


def test_a_picture_that_is_like_itself_is_itself(model: TextToImage):
    alone = pixels(model("a cat on a mat", seed=5, **AT))[0]
    same = pixels(model(["a cat on a mat"] * 3, seed=5, **AT, consistent=Consistent(0, 0)))
    assert all(abs(alone - one).max() <= 1 for one in same)


def test_the_first_is_what_it_is_and_the_second_becomes_like_it(model: TextToImage):
    plain = pixels(model(WORDS, seed=[5, 5], **AT))
    changed: list[float] = []
    for step in (0, 2, 3):
        said = model(WORDS, seed=5, **AT, consistent=Consistent(step, 0))
        first, second = pixels(said)
        assert abs(first - plain[0]).max() <= 1
        changed.append(float(abs(second - plain[1]).mean()))
        told = said[1].info["recipe"].consistent
        assert told == f"with 'a cat on a mat' from step {step}, layer 0"
    assert changed[0] > changed[1] > changed[2] > 0
    every = own_attentions(unet_of(model))
    late = pixels(model(WORDS, seed=5, **AT, consistent=Consistent(0, len(every) - 1)))
    assert 0 < abs(late[1] - plain[1]).mean() != changed[0]


def test_attentions_are_counted_as_they_are_asked(model: TextToImage):
    unet, asked = unet_of(model), []
    every = own_attentions(unet)
    hooks = [one.to_q.register_forward_hook(lambda *_, one=one: asked.append(one)) for one in every]
    try:
        model("a cat", **{**AT, "steps": 1}, guidance=1.0)
    finally:
        for hook in hooks:
            hook.remove()
    assert asked == every
    _, finest = finest_attentions(unet)
    assert finest <= set(every) and (finest != set(every))


def wishes(model: TextToImage) -> list[Request]:
    kinds = [
        Extras(consistent=Consistent(1, 0)), Extras(), Extras(hidiffusion=HiDiffusion(0.5)),
        Extras(hidiffusion=HiDiffusion(0.5), consistent=Consistent(0)),
        Extras(hidiffusion=HiDiffusion(), approximation=DeepCache(2)),
        Extras(consistent=Consistent(1, 1), approximation=DeepCache(2, 1)), Extras(),
    ]  # fmt: skip
    return [
        Request(
            prompts=WORDS if extras.consistent else WORDS[:1], size=(16, 32),
            seeds=[9, 9] if extras.consistent else [9], extras=extras,
            sampling=model.chosen(steps=2 + i % 2, guidance=5.0, solver="ddim"),
        )
        for i, extras in enumerate(kinds)
    ]  # fmt: skip


@pytest.mark.parametrize("exact", [True, False])
def test_among_strangers_a_request_is_what_it_is_alone(model: TextToImage, exact: bool):
    asked = wishes(model)
    engine = PaintingEngine(model.networks, exact=exact)
    jobs = []
    for one in asked:
        jobs.append(engine.submit(one))
        if len(jobs) % 3 == 0:
            engine.step()
    engine.run()
    for job, one in zip(jobs, asked, strict=True):
        apart = job.result().astype(int) - paint(model.networks, one).astype(int)
        assert abs(apart).max() <= (0 if exact else 1)


def test_an_engine_that_parts_them_says_so(model: TextToImage):
    engine = PaintingEngine(model.networks, exact=False, most=2)
    job = engine.submit(wishes(model)[0])
    engine.run()
    with pytest.raises(InvalidValue, match="asked in one call"):
        job.result()


def test_what_cannot_be_is_refused(model: TextToImage, tmp_path: Path):
    with pytest.raises(InvalidValue, match="no other to be alike"):
        model("a cat", **AT, consistent=Consistent())
    with pytest.raises(InvalidValue, match="none from 99 on"):
        model(WORDS, **AT, consistent=Consistent(0, 99))
    with pytest.raises(InvalidValue, match="from one seed"):
        model(WORDS, seed=[1, 2], **AT, consistent=Consistent())
    with pytest.raises(InvalidValue, match="do not part into windows"):
        model("a cat", **{**AT, "width": 18}, hidiffusion=HiDiffusion())
    with pytest.raises(InvalidValue, match="paints a picture whole"):
        model("a cat", **AT, hidiffusion=HiDiffusion(), tiling=Tiling(8, 2))
    with pytest.raises(InvalidValue, match="no share of the way"):
        HiDiffusion(1.5)
    with pytest.raises(InvalidValue, match="Count from 0"):
        Consistent(-1)
    long = [WORDS[0], "a dog " * 80]
    with pytest.raises(InvalidValue, match="about one length"):
        model(long, seed=1, **AT, consistent=Consistent(0))
    scenes = TextToImage.load(str(tiny_painter(tmp_path / "scenes")))
    with pytest.raises(InvalidValue, match="takes no hidiffusion"):
        scenes("a red star", hidiffusion=HiDiffusion())
    if unet_of(model).config.vector_width == 0:
        model.add(tiny_control(tmp_path / "canny.safetensors"), "canny")
        edges = np.zeros((32, 16, 3), np.uint8)
        with pytest.raises(InvalidValue, match="without controls"):
            control = Control(network="canny", picture=edges)
            model("a cat", **AT, controls=[control], hidiffusion=HiDiffusion())
