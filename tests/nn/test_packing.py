"""Packed convolutions: the same numbers but for rounding, whatever becomes of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diptych.models.unet import UNet, UNetConfig
from diptych.nn.packing import pack, unpack


@pytest.fixture
def network() -> UNet:
    torch.manual_seed(0)
    return UNet(UNetConfig.tiny()).eval()


def inputs(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 9, 7, generator=draw).to(dtype)
    return x, torch.tensor([5.0, 800.0]), torch.randn(2, 5, 32, generator=draw).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_but_for_rounding(network: UNet, dtype: torch.dtype):
    network.to(dtype)
    names = list(network.state_dict())
    with torch.inference_mode():
        plain = network(*inputs(dtype)).float()
        assert pack(network) == sum(
            type(m) is nn.Conv2d and m.kernel_size != (1, 1) for m in network.modules()
        )
        packed = network(*inputs(dtype)).float()
        apart = (packed - plain).abs().max() / plain.abs().max()
        assert apart < {torch.float32: 3e-6, torch.bfloat16: 3e-2}[dtype]
        unpack(network)
        assert torch.equal(network(*inputs(dtype)).float(), plain)
    assert list(network.state_dict()) == names


def test_weights_that_change_are_packed_again(network: UNet):
    pack(network)
    with torch.no_grad():
        before = network(*inputs())
        network.conv_in.weight.mul_(2)
        network.conv_out.weight = nn.Parameter(network.conv_out.weight * 3)
        after = network(*inputs())
        unpack(network)
        assert not torch.allclose(after, before)
        assert torch.allclose(after, network(*inputs()), atol=1e-5)


def test_hooks_are_called_and_gradients_pass(network: UNet):
    pack(network)
    seen: list[int] = []
    network.conv_in.register_forward_hook(lambda *_: seen.append(1))
    network(*inputs()).sum().backward()
    assert seen == [1] and network.conv_in.weight.grad is not None
