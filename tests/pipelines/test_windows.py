"""Pictures window by window, on a larger canvas, in two passes, and while they are painted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from diptych.foundation.errors import InvalidValue
from diptych.models.autoencoder_sd import AutoencoderSD
from diptych.models.autoencoder_tiny import AutoencoderTiny, AutoencoderTinyConfig
from diptych.pipelines.canvas import extended
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.passes import Enlarge
from diptych.pipelines.previews import fitted
from diptych.pipelines.steering import Control
from diptych.pipelines.tiles import Tiling, decoded
from tests.tiny_stable_diffusion import VAE, tiny_control, tiny_file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TextToImage:
    return TextToImage.load(str(tiny_file(tmp_path_factory.mktemp("sd") / "tiny.safetensors")))


@pytest.mark.parametrize("size", [(5, 40), (16, 16), (33, 17), (24, 32), (11, 15)])
@pytest.mark.parametrize("tiling", [Tiling(16, 8), Tiling(16, 8, 3), Tiling(16, 0), Tiling(7, 3)])
def test_windows_cover_every_cell_and_count_as_one(size: tuple[int, int], tiling: Tiling):
    counted = torch.zeros(size)
    for box in tiling.windows(*size):
        part = counted[box.top : box.top + box.height, box.left : box.left + box.width]
        assert part.shape == (box.height, box.width)
        part += tiling.weights(box, *size)
    assert counted.min() > 0
    # Where no window was moved to be flush with the end, what falls in one rises in the next.
    even = all((side - tiling.tile) % (tiling.tile - tiling.overlap) == 0 for side in size)
    if even:
        assert torch.allclose(counted, torch.ones_like(counted), atol=1e-5)


def test_a_decoder_without_norms_gives_the_same_pixels_in_windows():
    torch.manual_seed(0)
    config = AutoencoderTinyConfig(width=8, blocks=(1, 1, 1))
    network = AutoencoderTiny(config).eval().double().requires_grad_(False)
    latent = torch.randn(2, 4, 40, 25, dtype=torch.float64)
    whole = network.decode(latent)
    found = decoded(network.decode, latent, Tiling(tile=24, overlap=20, halo=9))
    assert torch.allclose(found, whole, atol=1e-6)  # blended in float32
    torn = decoded(network.decode, latent, Tiling(tile=24, overlap=4, halo=0))
    assert (torn - whole).abs().max() > 1e-3  # without a halo its borders are seen


def test_one_window_is_the_whole_and_many_are_near_it():
    torch.manual_seed(0)
    network = AutoencoderSD(VAE).eval().requires_grad_(False)
    latent = torch.randn(1, 4, 24, 40)
    whole = network.decode(latent)
    assert torch.equal(decoded(network.decode, latent, Tiling(64, 16)), whole)
    near = decoded(network.decode, latent, Tiling(20, 10))
    assert 0 < (near - whole).pow(2).mean().sqrt() < 0.5 * whole.std()


def test_a_picture_of_one_window_is_the_picture(model: TextToImage):
    asked = {"prompt": "a cat", "steps": 3, "width": 24, "height": 16}
    whole = model(**asked)
    assert model(**asked, tiling=Tiling(64, 16)).tobytes() == whole.tobytes()
    windows = model(**asked, tiling=Tiling(6, 4), tiled_decode=Tiling(8, 4))
    assert windows.size == whole.size and windows.tobytes() != whole.tobytes()
    assert windows.info["recipe"].tiling == "6 cells, 4 shared"


def test_what_is_followed_is_cut_with_the_windows(model: TextToImage, tmp_path: Path):
    model.add(tiny_control(tmp_path / "edges.safetensors"), "edges")
    edges = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8))
    asked = {"prompt": "a cat", "steps": 3, "width": 24, "height": 16}
    control = [Control(network="edges", picture=edges)]
    whole = model(**asked, controls=control)
    assert model(**asked, controls=control, tiling=Tiling(64, 16)).tobytes() == whole.tobytes()
    parts = model(**asked, controls=control, tiling=Tiling(6, 2))
    assert parts.tobytes() != model(**asked, tiling=Tiling(6, 2)).tobytes()


@pytest.mark.parametrize("by", ["latent", "pixels"])
def test_enlarged(model: TextToImage, by: str):
    picture = model("a cat", steps=4, width=16, height=24, enlarge=Enlarge(scale=1.5, by=by))
    assert picture.size == (24, 36)
    recipe = picture.info["recipe"]
    assert (recipe.width, recipe.height) == (24, 36) and recipe.enlarge.startswith(by)
    with pytest.raises(InvalidValue, match="not enlarged in passing"):
        model("a cat", init=picture, enlarge=Enlarge())
    with pytest.raises(InvalidValue, match="scale of 1"):
        Enlarge(scale=1)


@pytest.mark.parametrize("sides", [(8, 0, 0, 0), (3, 5, 20, 9), (0, 40, 0, 0)])
def test_a_larger_canvas_holds_the_picture_and_mirrors_it(sides: tuple[int, int, int, int]):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    canvas, mask = extended(Image.fromarray(pixels), *sides, multiple=8, soft=2)
    left, top, right, _ = sides
    assert canvas.width % 8 == canvas.height % 8 == 0 and canvas.size == mask.size
    assert 0 <= canvas.width - (24 + left + right) < 8
    found = np.asarray(canvas)
    assert np.array_equal(found[top : top + 16, left : left + 24], pixels)
    if left:
        assert np.array_equal(found[top : top + 16, left - 1], pixels[:, 0])
    if top:
        assert np.array_equal(found[top - 1, left : left + 24], pixels[0])
    painted = np.asarray(mask) > 0
    assert painted[:, :left].all() and painted[:top].all()
    assert not painted[top + 3 : top + 13, left + 3 : left + 21].any()
    with pytest.raises(InvalidValue, match="no room"):
        extended(Image.fromarray(pixels), -1)


def test_outpainting_keeps_the_picture_to_the_pixel(model: TextToImage):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    canvas, mask = extended(Image.fromarray(pixels), right=8, soft=0)
    painted = model("a cat", steps=3, init=canvas, mask=mask)
    assert painted.size == (24, 16)
    assert np.array_equal(np.asarray(painted)[:, :16], pixels)


class Linear:
    """A decoder that is a linear map and a doubling of the size."""

    size = (16, 16)
    device, dtype = torch.device("cpu"), torch.float32
    colors = torch.tensor([[0.1, 0.2, -0.1], [0.0, -0.2, 0.1]])

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        return 2, height // 2, width // 2

    def decode(self, latent: Tensor) -> Tensor:
        image = torch.einsum("bchw,cd->bdhw", latent, self.colors) + 0.1
        return image.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_a_linear_decoder_is_found_again():
    found = fitted(Linear())  # type: ignore[arg-type]
    assert torch.allclose(
        found.weights, torch.cat([Linear.colors, torch.full((1, 3), 0.1)]), atol=1e-5
    )


def test_previews_come_after_every_step_and_near_the_end(model: TextToImage):
    seen: list[tuple[int, Image.Image]] = []
    asked = {"prompt": "a cat", "steps": 5, "width": 24, "height": 16}
    picture = model(**asked, preview=lambda step, pictures: seen.append((step, pictures[0])))
    assert picture.tobytes() == model(**asked).tobytes()
    assert [step for step, _ in seen] == list(range(1, len(seen) + 1)) and len(seen) >= 5
    assert all(small.size == (12, 8) for _, small in seen)


def test_an_error_in_a_preview_ends_the_painting(model: TextToImage):
    class Enough(Exception):
        pass

    def stop(step: int, _: list[Image.Image]) -> None:
        if step == 2:
            raise Enough

    with pytest.raises(Enough):
        model("a cat", steps=5, width=16, height=16, preview=stop)
    assert replace(model.sampling, steps=3).steps == 3
