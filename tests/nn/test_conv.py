"""Steps between sizes against plain formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from diptych.nn.conv import Downsample, Upsample


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("size", [(4, 5), (32, 32), (33, 45), (1, 1024)])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_twice_the_size_is_the_convolution_of_the_doubled_picture(size, memory):
    """Small pictures go the plain way, large ones through added kernels."""
    layer = Upsample(3).double()
    x = drawn(2, 3, *size).contiguous(memory_format=memory).requires_grad_(True)
    plain = layer.conv(interpolate(x, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(layer(x), plain, rtol=1e-12, atol=1e-12)
    weight = drawn(*plain.shape, seed=1)
    wanted = [x, *layer.parameters()]
    for one, other in zip(
        torch.autograd.grad((layer(x) * weight).sum(), wanted),
        torch.autograd.grad((plain * weight).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_what_takes_the_place_of_the_convolution_is_called():
    class Doubled(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    layer, x = Upsample(3).double(), drawn(1, 3, 40, 40)
    plain, other = layer(x), Doubled(3, 3, 3, padding=1).double()
    other.load_state_dict(layer.conv.state_dict())
    layer.conv = other
    torch.testing.assert_close(layer(x), 2 * plain)


@pytest.mark.parametrize("size", [(7, 9), (8, 10), (64, 63)])
def test_a_size_that_is_asked_for_is_given(size: tuple[int, int]):
    layer, x = Upsample(3).double(), drawn(2, 3, (size[0] + 1) // 2, (size[1] + 1) // 2)
    assert layer(x, size).shape[2:] == size


@pytest.mark.parametrize(("size", "centred", "lower"), [(8, 4, 4), (7, 4, 3)])
def test_half_the_size_is_rounded_up_if_centred_else_down(size: int, centred: int, lower: int):
    x = drawn(1, 2, size, size)
    assert Downsample(2).double()(x).shape[2:] == (centred, centred)
    assert Downsample(2, centred=False).double()(x).shape[2:] == (lower, lower)
