"""A small KL autoencoder (Kingma and Welling, 2014; Rombach et al., 2022) that folds space into
channels instead of striding: nearly all its work is done at 1/8 of the picture's width, where a
CPU multiplies matrices at full speed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from diptych.nn.conv import ResidualBlock


@dataclass(frozen=True, kw_only=True)
class AutoencoderKLConfig:
    """`width` at 1/8 of the picture's width, `fine_width` at 1/4 (decoder only).

    A latent is normalized as (z - shift) * scale, so that its values have unit variance.
    """

    image_channels: int = 3
    latent_channels: int = 16
    width: int = 128
    fine_width: int = 48
    encoder_blocks: int = 1
    decoder_blocks: int = 2
    shift: float = 0.0
    scale: float = 1.0

    @classmethod
    def tiny(cls, **changes: float) -> AutoencoderKLConfig:
        return replace(cls(latent_channels=4, width=16, fine_width=8, decoder_blocks=1), **changes)


class AutoencoderKL(nn.Module):
    """Pictures to latents of 1/8 the width and back."""

    factor = 8

    def __init__(self, config: AutoencoderKLConfig):
        super().__init__()
        self.config = config
        width, fine = config.width, config.fine_width
        self.patch_in = nn.Conv2d(64 * config.image_channels, width, 1)
        self.encoder = _blocks(width, config.encoder_blocks)
        self.moments_out = nn.Conv2d(width, 2 * config.latent_channels, 1)
        self.latent_in = nn.Conv2d(config.latent_channels, width, 3, padding=1)
        self.decoder = _blocks(width, config.decoder_blocks)
        self.widen = nn.Conv2d(width, 4 * fine, 1)
        self.refine = _blocks(fine, 1)
        self.norm = nn.GroupNorm(8, fine)
        self.image_out = nn.Conv2d(fine, 16 * config.image_channels, 3, padding=1)

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image [B, 3, H, W] in -1..1 -> mean and log variance [B, C, H/8, W/8]"""
        h = self.encoder(self.patch_in(pixel_unshuffle(image, 8)))
        mean, log_variance = self.moments_out(silu(h)).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 10)

    def encode(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] in -1..1 -> normalized latent [B, C, H/8, W/8], the mean"""
        return (self.posterior(image)[0] - self.config.shift) * self.config.scale

    def decode(self, latent: Tensor) -> Tensor:
        """normalized latent [B, C, h, w] -> image [B, 3, 8h, 8w], about -1..1"""
        return self.decode_raw(latent / self.config.scale + self.config.shift)

    def decode_raw(self, z: Tensor) -> Tensor:
        """z [B, C, h, w] as the encoder draws it -> image [B, 3, 8h, 8w]"""
        h = self.decoder(self.latent_in(z))
        h = self.refine(pixel_shuffle(self.widen(h), 2))
        return pixel_shuffle(self.image_out(silu(self.norm(h))), 4)

    def forward(self, image: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """image [B, 3, H, W], noise [B, C, H/8, W/8] -> image again, mean, log variance"""
        mean, log_variance = self.posterior(image)
        z = mean if noise is None else mean + torch.exp(0.5 * log_variance) * noise
        return self.decode_raw(z), mean, log_variance


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))
