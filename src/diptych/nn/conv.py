"""Convolutional parts."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, silu

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
        height, width = size or (2 * x.shape[2], 2 * x.shape[3])
        return self.conv(interpolate(x, size=(height, width), mode="nearest"))


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1)
