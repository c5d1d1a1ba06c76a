"""Convolutional parts."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import silu


class ResidualBlock(nn.Module):
    """Norm, SiLU, 3x3 convolution, twice, around a residual (the diffusion U-Net's)."""

    def __init__(self, channels: int, groups: int = 8):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, channels), _conv(channels)
        self.norm2, self.conv2 = nn.GroupNorm(groups, channels), _conv(channels)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]"""
        h = self.conv1(silu(self.norm1(x)))
        return x + self.conv2(silu(self.norm2(h)))


def _conv(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1)
