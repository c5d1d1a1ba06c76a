"""A U-Net in two parts: all of it, or its uppermost layers over what is kept of the others."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from diptych.models.unet import UNet
from diptych.models.unet_blocks import Context, DownBlock, UpBlock


class Given(NamedTuple):
    """x [B, C, H, W], t [B], what is seen of the words, and vector [B, V] or None."""

    x: Tensor
    t: Tensor
    context: Context
    vector: Tensor | None


def whole(unet: UNet, given: Given, layers: int) -> tuple[Tensor, Tensor]:
    """What the network says [B, C', H, W], and what its last `layers` had from below."""
    x, t, context, vector = given
    time = unet.times(t, vector)
    states = unet.encode(unet.conv_in(x), time, context)
    h = unet.mid_block(states[-1], time, context)
    for block in [*unet.up_blocks][:-1]:
        h = block(h, states, time, context)
    last, count = _last(unet)
    deep = last.layers(range(count - layers), h, states, time, context)
    h = last.layers(range(count - layers, count), deep, states, time, context)
    return unet.said(h), deep


def shallow(unet: UNet, given: Given, deep: Tensor, layers: int) -> Tensor:
    """What the network says [B, C', H, W], where what comes from below is known."""
    x, t, context, vector = given
    time = unet.times(t, vector)
    states = [unet.conv_in(x)]
    first = unet.down_blocks[0]
    assert isinstance(first, DownBlock)
    for number in range(layers - 1):
        states.append(first.layer(number, states[-1], time, context))
    last, count = _last(unet)
    h = last.layers(range(count - layers, count), deep, states, time, context)
    return unet.said(h)


def _last(unet: UNet) -> tuple[UpBlock, int]:
    """The uppermost block, and how many layers it has."""
    last = unet.up_blocks[-1]
    assert isinstance(last, UpBlock)
    return last, len(last.resnets)
