"""The KL autoencoder against diffusers' with the same random weights, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from networks import all_apart, apart, drawn, gradients_apart, named, randomized, twin
from torch import Tensor, nn

from diptych.models.autoencoder_sd import (
    FLUX_VAE,
    SD3_VAE,
    SD_VAE,
    SDXL_VAE,
    AutoencoderSD,
    AutoencoderSDConfig,
)

TINY = {
    "with-quant-convs": AutoencoderSDConfig.tiny(),
    "sixteen-channels": AutoencoderSDConfig.tiny(
        widths=(8, 16, 24), latent_channels=16, quant_convs=False, shift=0.1, scale=0.4
    ),
}
every_kind = pytest.mark.parametrize("name", TINY)


def described(config: AutoencoderSDConfig) -> dict[str, Any]:
    """Our config in their words."""
    levels = len(config.widths)
    return {
        "in_channels": config.image_channels,
        "out_channels": config.image_channels,
        "latent_channels": config.latent_channels,
        "block_out_channels": config.widths,
        "layers_per_block": config.blocks,
        "norm_num_groups": config.groups,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "use_quant_conv": config.quant_convs,
        "use_post_quant_conv": config.quant_convs,
    }


def pair(config: AutoencoderSDConfig) -> tuple[AutoencoderSD, AutoencoderKL]:
    theirs = randomized(AutoencoderKL(**described(config)))
    return twin(AutoencoderSD(config), theirs), theirs


def encoded(network: nn.Module, image: Tensor) -> Tensor:
    """Mean and log variance, side by side."""
    if isinstance(network, AutoencoderSD):
        return torch.cat(network.posterior(image), dim=1)
    posterior = network.encode(image).latent_dist
    return torch.cat([posterior.mean, posterior.logvar], dim=1)


def decoded(network: nn.Module, z: Tensor) -> Tensor:
    return network.decode_raw(z) if isinstance(network, AutoencoderSD) else network.decode(z).sample


@every_kind
@pytest.mark.parametrize("size", [(16, 24), (20, 12), (17, 22)])
def test_the_same_latents(name: str, size: tuple[int, int]):
    image = drawn(2, 3, *size, seed=1)
    with torch.no_grad():
        assert apart(*(encoded(network, image) for network in pair(TINY[name]))) <= 1e-9


@every_kind
@pytest.mark.parametrize("size", [(8, 8), (5, 7), (33, 40)])
def test_the_same_pictures(name: str, size: tuple[int, int]):
    z = drawn(2, TINY[name].latent_channels, *size, seed=2)
    with torch.no_grad():
        assert apart(*(decoded(network, z) for network in pair(TINY[name]))) <= 1e-9


@every_kind
def test_the_same_gradients(name: str):
    ours, theirs = pair(TINY[name])
    image, z = drawn(2, 3, 12, 20, seed=1), drawn(1, TINY[name].latent_channels, 34, 31, seed=2)
    assert gradients_apart(ours, theirs, image, named(ours, "encoder."), encoded) <= 1e-9
    assert gradients_apart(ours, theirs, z, named(ours, "decoder."), decoded) <= 1e-9


@every_kind
def test_in_float32_as_close_as_rounding_allows(name: str):
    ours, theirs = pair(TINY[name])
    image, z = drawn(2, 3, 12, 20, seed=1), drawn(1, TINY[name].latent_channels, 34, 31, seed=2)
    with torch.no_grad():
        exact = encoded(theirs, image), decoded(theirs, z)
        ours.float()
        single = encoded(ours, image.float()), decoded(ours, z.float())
    assert all_apart(single, exact) <= 3e-6


def test_a_log_variance_has_their_bounds():
    ours, theirs = pair(TINY["with-quant-convs"])
    image = 300 * drawn(1, 3, 16, 16, seed=3)
    assert theirs.quant_conv is not None and ours.quant_conv is not None
    with torch.no_grad():
        for network in (ours, theirs):
            network.quant_conv.weight *= 300
        found = [encoded(network, image) for network in (ours, theirs)]
    log_variance = found[1].chunk(2, dim=1)[1]
    assert log_variance.min() == -30 and log_variance.max() == 20
    assert apart(*found) <= 1e-9


FULL = {
    "sd": (SD_VAE, 83_653_863),
    "sdxl": (SDXL_VAE, 83_653_863),
    "sd3": (SD3_VAE, 83_819_683),
    "flux": (FLUX_VAE, 83_819_683),
}


@pytest.mark.parametrize("name", FULL)
def test_full_sizes_have_the_published_parameters(name: str):
    config, count = FULL[name]
    with torch.device("meta"):
        ours, theirs = AutoencoderSD(config), AutoencoderKL(**described(config))
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == count and ours.factor == 8
