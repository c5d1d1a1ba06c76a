"""PixArt against diffusers' with the same random weights, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from networks import ExactTimes, apart, drawn, gradients_apart, named, randomized, twin
from torch import Tensor, nn

from diptych.models.pixart import (
    PIXART_ALPHA,
    PIXART_ALPHA_512,
    PIXART_SIGMA,
    PixArt,
    PixArtConfig,
)

TINY = {
    "sigma": PixArtConfig.tiny(),
    "alpha": PixArtConfig.tiny(sizes=True),
    "interpolated": PixArtConfig.tiny(interpolation=2.0, side=12, heads=3, depth=3),
    "without a variance": PixArtConfig.tiny(out_channels=4),
}
SIZES = [(8, 8), (8, 12), (10, 6)]
every_kind = pytest.mark.parametrize("name", TINY)


def described(config: PixArtConfig) -> dict[str, Any]:
    """Our config in their words."""
    return {
        "num_attention_heads": config.heads,
        "attention_head_dim": config.width // config.heads,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "num_layers": config.depth,
        "cross_attention_dim": config.width,
        "sample_size": config.side,
        "patch_size": config.patch_size,
        "interpolation_scale": config.interpolation,
        "use_additional_conditions": config.sizes,
        "caption_channels": config.context_width,
    }


def pair(config: PixArtConfig, *, exact: bool = True) -> tuple[PixArt, PixArtTransformer2DModel]:
    theirs = randomized(PixArtTransformer2DModel(**described(config)))
    embed = theirs.adaln_single.emb
    if exact:
        embed.time_proj = embed.additional_condition_proj = ExactTimes(256)
    return twin(PixArt(config), theirs), theirs


class Inputs:
    """Two rows with times of their own, words of different lengths."""

    def __init__(self, config: PixArtConfig, size: tuple[int, int]):
        self.x = drawn(2, config.in_channels, *size, seed=1)
        self.t = torch.tensor([17.0, 981.0], dtype=torch.float64)
        self.context = drawn(2, 5, config.context_width, seed=2)
        self.mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
        sides = torch.tensor([[768.0, 1344.0], [1024.0, 512.0]], dtype=torch.float64)
        self.size = sides if config.sizes else None

    def run(self, network: nn.Module, x: Tensor) -> Tensor:
        context = self.context.to(x.dtype)
        if isinstance(network, PixArt):
            return network(x, self.t, context, self.mask, self.size)
        added = None
        if self.size is not None:
            ratio = self.size[:, :1] / self.size[:, 1:]
            added = {"resolution": self.size, "aspect_ratio": ratio}
        return network(
            x, context, self.t, added, encoder_attention_mask=self.mask.to(x.dtype)
        ).sample


@every_kind
@pytest.mark.parametrize("size", SIZES)
def test_the_same_prediction(name: str, size: tuple[int, int]):
    ours, theirs = pair(TINY[name])
    inputs = Inputs(TINY[name], size)
    with torch.no_grad():
        assert apart(inputs.run(ours, inputs.x), inputs.run(theirs, inputs.x)) <= 1e-9


@every_kind
def test_the_same_gradients(name: str):
    ours, theirs = pair(TINY[name])
    inputs = Inputs(TINY[name], (8, 12))
    assert gradients_apart(ours, theirs, inputs.x, named(ours), inputs.run) <= 1e-9


@every_kind
def test_in_float32_as_close_as_rounding_allows(name: str):
    # Beside their float32: of 981 the angles are good to 3e-5 there, in both alike.
    ours, theirs = (network.float() for network in pair(TINY[name], exact=False))
    inputs = Inputs(TINY[name], (8, 12))
    with torch.no_grad():
        x = inputs.x.float()
        assert apart(inputs.run(ours, x), inputs.run(theirs, x)) <= 3e-6


def test_words_behind_the_mask_say_nothing():
    ours, _ = pair(TINY["sigma"])
    inputs = Inputs(TINY["sigma"], (8, 12))
    with torch.no_grad():
        one = inputs.run(ours, inputs.x)
        inputs.context[0, 3:] += 1
        assert torch.equal(inputs.run(ours, inputs.x), one)
        inputs.context[1, 3:] += 1
        assert apart(inputs.run(ours, inputs.x)[1], one[1]) > 1e-2


def test_sizes_are_told_where_they_are_asked_for():
    for sizes in (True, False):
        config = PixArtConfig.tiny(sizes=sizes)
        inputs = Inputs(PixArtConfig.tiny(sizes=not sizes), (8, 8))
        with pytest.raises(ValueError, match="size"):
            inputs.run(PixArt(config).double(), inputs.x)


FULL = {
    "alpha": (PIXART_ALPHA, 611_349_152),
    "alpha-512": (PIXART_ALPHA_512, 610_856_096),
    "sigma": (PIXART_SIGMA, 610_856_096),
}


@pytest.mark.parametrize("name", FULL)
def test_full_sizes_have_the_published_parameters(name: str):
    config, count = FULL[name]
    with torch.device("meta"):
        ours, theirs = PixArt(config), PixArtTransformer2DModel(**described(config))
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == count
