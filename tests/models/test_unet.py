"""What is special about the U-Net; against the reference it is tested in `tests/oracles`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diptych.foundation.config import from_json
from diptych.foundation.errors import InvalidValue
from diptych.models.unet import SDXL, UNet, UNetConfig
from diptych.nn.positions import number_features


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inputs(config: UNetConfig, rows: int = 1) -> dict[str, Tensor]:
    return {
        "x": drawn(rows, config.in_channels, 8, 8),
        "t": 900 * torch.rand(rows, generator=torch.Generator().manual_seed(1)),
        "context": drawn(rows, 5, config.context_width, seed=2),
    }


@pytest.mark.parametrize(
    "change",
    [
        {"widths": [320, 640]},
        {"depths": [1]},
        {"heads": [8, 8, 8, 7]},
        {"groups": 48},
        {"widths": [], "depths": [], "heads": []},
    ],
)
def test_sizes_that_cannot_be_are_refused(change: dict[str, object]):
    with pytest.raises(InvalidValue):
        from_json(UNetConfig, change)


def test_a_vector_is_neither_missed_nor_ignored():
    plain, told = UNet(UNetConfig.tiny()), UNet(UNetConfig.tiny(vector_width=12))
    given = inputs(plain.config)
    with pytest.raises(ValueError, match="vector"):
        plain(**given, vector=drawn(1, 12))
    with pytest.raises(ValueError, match="vector"):
        told(**given)
    with torch.no_grad():
        one, other = (told(**given, vector=drawn(1, 12, seed=seed)) for seed in (3, 4))
    assert not torch.equal(one, other)


def test_a_controlnet_of_another_depth_is_refused():
    network = UNet(UNetConfig.tiny())
    given = inputs(network.config)
    with torch.no_grad():
        states = network.encode(network.conv_in(given["x"]), torch.zeros(1, 128), given["context"])
        with pytest.raises(ValueError, match="shorter"):
            network(**given, down_residuals=states[:-1])


def test_in_bfloat16_times_are_embedded_before_they_are_rounded():
    """bfloat16 knows 900 and 904 but no time between; the network must."""
    network = UNet(UNetConfig.tiny()).bfloat16().eval()
    given = {key: value.bfloat16() for key, value in inputs(network.config).items()}
    with torch.no_grad():
        one, other = (network(**given | {"t": torch.tensor([t])}) for t in (900.0, 901.0))
    assert one.dtype == torch.bfloat16 and not torch.equal(one, other)


def test_the_vector_of_sdxl_has_the_width_of_its_parts():
    sizes = number_features(torch.tensor([[1024, 1024, 0, 0, 1024, 1024]]), 256)
    assert 1280 + sizes.shape[1] == SDXL.vector_width


def test_an_evaluation_leaves_its_inputs_as_they_were():
    """Blocks work in place; what a caller holds is not theirs."""
    network = UNet(UNetConfig.tiny(vector_width=12)).eval()
    given = inputs(network.config, 2) | {"vector": drawn(2, 12)}
    before = {key: value.clone() for key, value in given.items()}
    with torch.no_grad():
        out = network(**given)
        assert torch.equal(out, network(**given))
    assert all(torch.equal(given[key], value) for key, value in before.items())
