"""Convolutional parts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad, silu

from diptych.nn.blocks import RowLinear


class ResidualBlock(nn.Module):
    """Norm, SiLU, 3x3 convolution, twice, around a residual (the diffusion U-Net's)."""

    def __init__(self, channels: int, groups: int = 8):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, channels), _conv(channels, channels)
        self.norm2, self.conv2 = nn.GroupNorm(groups, channels), _conv(channels, channels)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]"""
        h = self.conv1(silu(self.norm1(x)))
        return x + self.conv2(silu(self.norm2(h)))


class ResnetBlock(nn.Module):
    """The same around a change of width, and told the time if `time_width` is not 0 (Ho et al.,
    2020). Names as in published files."""

    def __init__(
        self, before: int, after: int, *, time_width: int = 0, groups: int = 32, eps: float = 1e-5
    ):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, before, eps), _conv(before, after)
        self.norm2, self.conv2 = nn.GroupNorm(groups, after, eps), _conv(after, after)
        self.time_emb_proj = RowLinear(time_width, after) if time_width else None
        self.conv_shortcut = nn.Conv2d(before, after, 1) if before != after else None

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """x [B, before, H, W], time [B, T] after its SiLU -> [B, after, H, W]"""
        # In place wherever the tensor is this block's own: pictures are large.
        h = self.conv1(silu(self.norm1(x), inplace=True))
        if self.time_emb_proj is not None:
            h += self.time_emb_proj(time)[:, :, None, None]
        h = self.conv2(silu(self.norm2(h), inplace=True))
        h += x if self.conv_shortcut is None else self.conv_shortcut(x)
        return h


class Downsample(nn.Module):
    """Half the size by a strided convolution. `centred` pads all four sides (U-Nets), else the
    lower and the right one alone (autoencoders)."""

    def __init__(self, channels: int, *, centred: bool = True):
        super().__init__()
        self.centred = centred
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=int(centred))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H / 2, W / 2], rounded up if centred, else down"""
        return self.conv(x if self.centred else pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest neighbours, then a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = _conv(channels, channels)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """[B, C, H, W] -> [B, C, *size]; twice the size if none is given"""
        height, width = x.shape[2:]
        # What an adapter or a quantizer has put in the convolution's place is to be called.
        plain = type(self.conv) is nn.Conv2d
        if plain and size is None and height * width >= _FOLDED_FROM:
            return _folded(x, self.conv)
        larger = size or (2 * height, 2 * width)
        return self.conv(interpolate(x, size=larger, mode="nearest"))


# Below, adding up kernels costs more than it saves (measured with 640 and 1280 channels).
_FOLDED_FROM = 32 * 32


def _folded(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Nearest neighbours and convolution in one, [B, C, H, W] -> [B, D, 2 H, 2 W].

    Of three neighbours in the doubled picture two are the same cell, so their weights are added
    up first: four 2x2 kernels, one for each corner of a cell, 4/9 of the multiplications and no
    doubled picture (Aitken et al., 2017).
    """
    rows, height, width = len(x), *x.shape[2:]
    size = (rows, conv.out_channels, 2 * height, 2 * width)
    out = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    for top, band in enumerate(_halves(conv.weight, dim=2)):
        for left, kernel in enumerate(_halves(band, dim=3)):
            part = conv2d(x, kernel, conv.bias, padding=1)
            out[:, :, top::2, left::2] = part[:, :, top : top + height, left : left + width]
    return out


def _halves(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Three weights along `dim` -> the two that the first and the second half of a cell need."""
    before, here, after = weight.unbind(dim)
    return torch.stack([before, here + after], dim), torch.stack([before + here, after], dim)


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1)


def channels_last(x: Tensor) -> Tensor:
    """[B, C, H, W] in another order of memory. At a picture's size convolutions are then faster
    by an eighth or more, and need no copies to reorder."""
    return x.contiguous(memory_format=torch.channels_last)
