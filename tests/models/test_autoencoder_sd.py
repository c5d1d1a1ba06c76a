"""What is special about Stable Diffusion's autoencoder; against the reference it is tested in
`tests/oracles`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diptych.foundation.config import from_json
from diptych.foundation.errors import InvalidValue
from diptych.models.autoencoder_sd import FLUX_VAE, AutoencoderSD, AutoencoderSDConfig


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def test_a_latent_has_the_shift_and_scale_of_its_config():
    config = AutoencoderSDConfig.tiny(shift=FLUX_VAE.shift, scale=FLUX_VAE.scale)
    network, image = AutoencoderSD(config).eval(), drawn(1, 3, 16, 16)
    mean = network.posterior(image)[0]
    latent = network.encode(image)
    torch.testing.assert_close(latent, (mean - 0.1159) * 0.3611)
    torch.testing.assert_close(network.decode(latent), network.decode_raw(mean))


def test_noise_moves_a_latent_by_its_deviation():
    network, image = AutoencoderSD(AutoencoderSDConfig.tiny()).eval(), drawn(2, 3, 16, 16)
    noise = drawn(2, 4, 8, 8, seed=1)
    again, mean, log_variance = network(image, noise)
    z = mean + (log_variance / 2).exp() * noise
    torch.testing.assert_close(again, network.decode_raw(z))
    assert torch.equal(network(image)[0], network.decode_raw(mean))


@pytest.mark.parametrize("size", [(8, 8), (33, 40)])
def test_inputs_stay_and_outputs_are_in_reading_order(size: tuple[int, int]):
    """Inside, channels come last and blocks work in place; outside nobody sees it."""
    network, z = AutoencoderSD(AutoencoderSDConfig.tiny()).eval(), drawn(2, 4, *size)
    before = z.clone()
    image = network.decode_raw(z)
    assert torch.equal(z, before) and image.is_contiguous()
    assert all(part.is_contiguous() for part in network.encode(image).split(1))
    channels_last = z.contiguous(memory_format=torch.channels_last)
    assert torch.equal(network.decode_raw(channels_last), image)
    assert torch.equal(channels_last, before)


@pytest.mark.parametrize("change", [{"widths": []}, {"widths": [48]}, {"groups": 30}])
def test_sizes_that_cannot_be_are_refused(change: dict[str, object]):
    with pytest.raises(InvalidValue):
        from_json(AutoencoderSDConfig, change)
