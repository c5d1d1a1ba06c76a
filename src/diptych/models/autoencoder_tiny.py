"""The tiny autoencoders TAESD (Boer Bohan, 2023): the latents of Stable Diffusion's, SDXL's, SD3's
or FLUX's autoencoder to pictures in a tenth of its time, for previews. Names of parameters are
those of the published folders."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from diptych.nn.conv import channels_last


@dataclass(frozen=True, kw_only=True)
class AutoencoderTinyConfig:
    """Residual blocks a level, from the picture's size down; the decoder has them upside down.

    Latents are normalized ones already.
    """

    image_channels: int = 3
    latent_channels: int = 4
    width: int = 64
    blocks: tuple[int, ...] = (1, 3, 3, 3)

    @classmethod
    def tiny(cls, **changes: int | tuple[int, ...]) -> AutoencoderTinyConfig:
        return replace(cls(width=8, blocks=(1, 2)), **changes)


TAESD = AutoencoderTinyConfig()  # of Stable Diffusion 1 and 2, and of SDXL
TAESD_16 = AutoencoderTinyConfig(latent_channels=16)  # of SD3, and of FLUX


class AutoencoderTiny(nn.Module):
    """Pictures to latents of 1/8 the width (with four levels) and back."""

    def __init__(self, config: AutoencoderTinyConfig):
        super().__init__()
        self.config = config
        self.encoder, self.decoder = _Encoder(config), _Decoder(config)

    @property
    def factor(self) -> int:
        """How many pixels a latent cell is wide."""
        return 2 ** (len(self.config.blocks) - 1)

    def encode(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] in -1..1 -> normalized latent [B, C, H/8, W/8]"""
        return self.encoder(channels_last((image + 1) / 2)).contiguous()

    def decode(self, latent: Tensor) -> Tensor:
        """normalized latent [B, C, h, w] -> image [B, 3, 8h, 8w], about -1..1"""
        return (self.decoder(channels_last(latent)) * 2 - 1).contiguous()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image [B, 3, H, W] -> image again, latent"""
        latent = self.encode(image)
        return self.decode(latent), latent


class _Block(nn.Module):
    """Three convolutions around a residual."""

    def __init__(self, width: int):
        super().__init__()
        first, second, third = (_conv(width, width) for _ in range(3))
        self.conv = nn.Sequential(first, nn.ReLU(True), second, nn.ReLU(True), third)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]"""
        h = self.conv(x)
        h += x
        return relu(h, inplace=True)


class _Encoder(nn.Module):
    """A picture in 0..1 to a latent."""

    def __init__(self, config: AutoencoderTinyConfig):
        super().__init__()
        width = config.width
        layers: list[nn.Module] = []
        for level, count in enumerate(config.blocks):
            if level:
                layers.append(nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False))
            else:
                layers.append(_conv(config.image_channels, width))
            layers += [_Block(width) for _ in range(count)]
        self.layers = nn.Sequential(*layers, _conv(width, config.latent_channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C, H/8, W/8]"""
        return self.layers(x)


class _Decoder(nn.Module):
    """A latent to a picture in 0..1."""

    def __init__(self, config: AutoencoderTinyConfig):
        super().__init__()
        width = config.width
        layers: list[nn.Module] = [_conv(config.latent_channels, width), nn.ReLU(True)]
        for level in reversed(range(len(config.blocks))):
            layers += [_Block(width) for _ in range(config.blocks[level])]
            if level:
                layers.append(nn.Upsample(scale_factor=2))
                layers.append(nn.Conv2d(width, width, 3, padding=1, bias=False))
        self.layers = nn.Sequential(*layers, _conv(width, config.image_channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, 3, 8h, 8w]"""
        return self.layers(3 * torch.tanh(x / 3))  # no value of a latent beyond 3 is believed


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1)
