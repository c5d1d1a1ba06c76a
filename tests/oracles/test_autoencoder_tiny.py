"""The tiny autoencoder against diffusers' with the same random weights, in float64."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from networks import all_apart, apart, drawn, gradients_apart, named, randomized, twin
from torch import Tensor, nn

from diptych.models.autoencoder_tiny import (
    TAESD,
    TAESD_16,
    AutoencoderTiny,
    AutoencoderTinyConfig,
)

TINY = {
    "two-levels": AutoencoderTinyConfig.tiny(),
    "four-levels": AutoencoderTinyConfig(width=8, latent_channels=16),
}
every_kind = pytest.mark.parametrize("name", TINY)


def described(config: AutoencoderTinyConfig) -> dict[str, Any]:
    """Our config in their words."""
    widths = (config.width,) * len(config.blocks)
    return {
        "in_channels": config.image_channels,
        "out_channels": config.image_channels,
        "latent_channels": config.latent_channels,
        "encoder_block_out_channels": widths,
        "decoder_block_out_channels": widths,
        "num_encoder_blocks": config.blocks,
        "num_decoder_blocks": config.blocks[::-1],
    }


def pair(config: AutoencoderTinyConfig) -> tuple[AutoencoderTiny, diffusers.AutoencoderTiny]:
    theirs = randomized(diffusers.AutoencoderTiny(**described(config)))
    return twin(AutoencoderTiny(config), theirs), theirs


def encoded(network: nn.Module, image: Tensor) -> Tensor:
    ours = isinstance(network, AutoencoderTiny)
    return network.encode(image) if ours else network.encode(image).latents


def decoded(network: nn.Module, latent: Tensor) -> Tensor:
    ours = isinstance(network, AutoencoderTiny)
    return network.decode(latent) if ours else network.decode(latent).sample


@every_kind
@pytest.mark.parametrize("size", [(16, 24), (17, 22)])
def test_the_same_latents(name: str, size: tuple[int, int]):
    image = drawn(2, 3, *size, seed=1)
    with torch.no_grad():
        assert apart(*(encoded(network, image) for network in pair(TINY[name]))) <= 1e-9


@every_kind
@pytest.mark.parametrize("size", [(8, 8), (5, 7)])
def test_the_same_pictures(name: str, size: tuple[int, int]):
    latent = 3 * drawn(2, TINY[name].latent_channels, *size, seed=2)
    with torch.no_grad():
        assert apart(*(decoded(network, latent) for network in pair(TINY[name]))) <= 1e-9


@every_kind
def test_the_same_gradients(name: str):
    ours, theirs = pair(TINY[name])
    image, latent = drawn(2, 3, 16, 24, seed=1), drawn(2, TINY[name].latent_channels, 5, 7, seed=2)
    assert gradients_apart(ours, theirs, image, named(ours, "encoder."), encoded) <= 1e-9
    assert gradients_apart(ours, theirs, latent, named(ours, "decoder."), decoded) <= 1e-9


@every_kind
def test_in_float32_as_close_as_rounding_allows(name: str):
    ours, theirs = pair(TINY[name])
    image, latent = drawn(2, 3, 16, 24, seed=1), drawn(2, TINY[name].latent_channels, 5, 7, seed=2)
    with torch.no_grad():
        exact = encoded(theirs, image), decoded(theirs, latent)
        ours.float()
        single = encoded(ours, image.float()), decoded(ours, latent.float())
    assert all_apart(single, exact) <= 3e-6


@pytest.mark.parametrize(("config", "count"), [(TAESD, 2_445_063), (TAESD_16, 2_458_899)])
def test_full_sizes_have_the_published_parameters(config: AutoencoderTinyConfig, count: int):
    with torch.device("meta"):
        ours, theirs = AutoencoderTiny(config), diffusers.AutoencoderTiny(**described(config))
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == count and ours.factor == 8
