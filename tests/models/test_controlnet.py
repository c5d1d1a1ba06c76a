"""ControlNet and the U-Net it controls; against the reference it is tested in `tests/oracles`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diptych.models.controlnet import ControlNet, ControlNetConfig, weighed
from diptych.models.unet import UNet


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def networks() -> tuple[ControlNet, UNet]:
    config = ControlNetConfig.tiny()
    return ControlNet(config).eval(), UNet(config.unet).eval()


INPUTS = (drawn(2, 4, 8, 7), torch.tensor([17.0, 900.0]), drawn(2, 5, 32, seed=1))
HINT = torch.rand(2, 3, 16, 14, generator=torch.Generator().manual_seed(2))


def test_fresh_it_changes_nothing():
    control, unet = networks()
    *down, middle = control(*INPUTS, HINT)
    assert not any(part.any() for part in [*down, middle])
    assert torch.equal(unet(*INPUTS, None, down, middle), unet(*INPUTS))


def test_its_residuals_fit_the_network_and_strength_nothing_is_none():
    control, unet = networks()
    for number, parameter in enumerate(control.parameters()):
        parameter.copy_(0.1 * drawn(*parameter.shape, seed=number))
    *down, middle = control(*INPUTS, HINT)
    plain = unet(*INPUTS)
    controlled = unet(*INPUTS, None, down, middle)
    *down, middle = weighed([*down, middle], torch.tensor([1.0, 0.0]))
    half = unet(*INPUTS, None, down, middle)
    assert not torch.equal(controlled, plain)
    assert torch.equal(half[0], controlled[0]) and torch.equal(half[1], plain[1])


def test_a_hint_is_read_once_for_all_steps():
    control, _ = networks()
    for parameter in control.parameters():
        parameter.copy_(0.1 * drawn(*parameter.shape))
    once, again = control.residuals(*INPUTS, control.hint(HINT)), control(*INPUTS, HINT)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
