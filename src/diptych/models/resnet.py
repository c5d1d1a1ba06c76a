"""Residual networks (He et al., 2015), as torchvision and timm name and lay out theirs: ResNet-18
to 152, and the small one that looks at scenes. A bottleneck is strided in its 3x3 convolution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """`depths` and `widths`: blocks and channels of each stage; from the second on a stage halves
    the picture. A `bottleneck` gives out four times its channels. `large_stem`: 7x7, strided, and
    a pool, for photographs; else 3x3, strided. `classes`: 0 for features alone."""

    depths: tuple[int, ...] = (1, 1, 1)
    widths: tuple[int, ...] = (24, 48, 96)
    stem: int = 24
    bottleneck: bool = False
    large_stem: bool = False
    classes: int = 0

    @classmethod
    def tiny(cls, **changes: Any) -> ResNetConfig:
        return replace(cls(depths=(1, 1), widths=(4, 8), stem=4, classes=5), **changes)

    @property
    def width(self) -> int:
        """Channels of the last stage."""
        return self.widths[-1] * (4 if self.bottleneck else 1)

    @property
    def stride(self) -> int:
        """Pixels that a cell of the last stage is wide."""
        return (4 if self.large_stem else 2) * 2 ** (len(self.depths) - 1)


RESNET_18 = ResNetConfig(
    depths=(2, 2, 2, 2), widths=(64, 128, 256, 512), stem=64, large_stem=True, classes=1000
)
RESNET_50 = replace(RESNET_18, depths=(3, 4, 6, 3), bottleneck=True)
RESNET_101 = replace(RESNET_50, depths=(3, 4, 23, 3))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a residual."""

    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = _conv(before, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = _shortcut(before, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, before, H, W] -> [B, width, H / stride, W / stride]"""
        h = relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        return relu(h + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a residual."""

    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        after = 4 * width
        self.conv1, self.bn1 = _conv(before, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, after, 1), nn.BatchNorm2d(after)
        self.downsample = _shortcut(before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, before, H, W] -> [B, 4 width, H / stride, W / stride]"""
        h = relu(self.bn1(self.conv1(x)))
        h = relu(self.bn2(self.conv2(h)))
        h = self.bn3(self.conv3(h))
        return relu(h + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """A picture to a grid of features, and with `classes` to logits."""

    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.config = config
        size = 7 if config.large_stem else 3
        self.conv1, self.bn1 = _conv(3, config.stem, size, 2), nn.BatchNorm2d(config.stem)
        block = Bottleneck if config.bottleneck else BasicBlock
        outs = [width * (4 if config.bottleneck else 1) for width in config.widths]
        self.stages = [f"layer{number}" for number in range(1, len(outs) + 1)]
        for number, (before, after) in enumerate(pairwise([config.stem, *outs])):
            width, stride = config.widths[number], 2 if number else 1
            first = block(before, width, stride)
            more = (block(after, width, 1) for _ in range(config.depths[number] - 1))
            self.add_module(self.stages[number], nn.Sequential(first, *more))
        self.fc = nn.Linear(outs[-1], config.classes) if config.classes else None

    def features(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] -> [B, C, H / stride, W / stride]"""
        h = relu(self.bn1(self.conv1(image)))
        if self.config.large_stem:
            h = max_pool2d(h, 3, stride=2, padding=1)
        for name in self.stages:
            h = self.get_submodule(name)(h)
        return h

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] -> logits [B, classes], or the pooled features [B, C]"""
        pooled = self.features(image).mean(dim=(2, 3))
        return pooled if self.fc is None else self.fc(pooled)


def _conv(before: int, after: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)


def _shortcut(before: int, after: int, stride: int) -> nn.Sequential | None:
    if before == after and stride == 1:
        return None
    return nn.Sequential(_conv(before, after, 1, stride), nn.BatchNorm2d(after))
