"""The KL autoencoder of Stable Diffusion 1 to 3, SDXL and FLUX (Rombach et al., 2022): pictures to
latents of 1/8 the width and back. Names of parameters are those of the published folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from diptych.nn.attention import attend
from diptych.nn.conv import Downsample, ResnetBlock, Upsample, channels_last

_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class AutoencoderSDConfig:
    """`widths`: channels a level, from the picture's size down; `blocks` residual blocks in each,
    one more in the decoder; `quant_convs`: 1x1 convolutions around the latent.

    A latent is normalized as (z - shift) * scale, so that its values have unit variance.
    """

    image_channels: int = 3
    latent_channels: int = 4
    widths: tuple[int, ...] = (128, 256, 512, 512)
    blocks: int = 2
    groups: int = 32
    quant_convs: bool = True
    shift: float = 0.0
    scale: float = 0.18215

    def __post_init__(self) -> None:
        if not self.widths or any(width % self.groups for width in self.widths):
            raise ValueError(f"widths {self.widths} do not part into {self.groups} groups")

    @classmethod
    def tiny(cls, **changes: float | bool | tuple[int, ...]) -> AutoencoderSDConfig:
        return replace(cls(widths=(8, 16), blocks=1, groups=4), **changes)


SD_VAE = AutoencoderSDConfig()  # also PixArt-alpha's
SDXL_VAE = AutoencoderSDConfig(scale=0.13025)  # also PixArt-Sigma's and Lumina-Next's
SD3_VAE = AutoencoderSDConfig(latent_channels=16, quant_convs=False, shift=0.0609, scale=1.5305)
FLUX_VAE = AutoencoderSDConfig(  # also Lumina-Image 2's
    latent_channels=16, quant_convs=False, shift=0.1159, scale=0.3611
)


class AutoencoderSD(nn.Module):
    """Pictures to latents of 1/8 the width (with four levels) and back."""

    def __init__(self, config: AutoencoderSDConfig):
        super().__init__()
        self.config, channels = config, config.latent_channels
        self.encoder, self.decoder = _Encoder(config), _Decoder(config)
        self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1) if config.quant_convs else None
        self.post_quant_conv = nn.Conv2d(channels, channels, 1) if config.quant_convs else None

    @property
    def factor(self) -> int:
        """How many pixels a latent cell is wide."""
        return 2 ** (len(self.config.widths) - 1)

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image [B, 3, H, W] in -1..1 -> mean and log variance [B, C, H/8, W/8]"""
        moments = self.encoder(channels_last(image))
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        mean, log_variance = moments.contiguous().chunk(2, dim=1)
        return mean, log_variance.clamp(-30, 20)

    def encode(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] in -1..1 -> normalized latent [B, C, H/8, W/8], the mean"""
        return (self.posterior(image)[0] - self.config.shift) * self.config.scale

    def decode(self, latent: Tensor) -> Tensor:
        """normalized latent [B, C, h, w] -> image [B, 3, 8h, 8w], about -1..1"""
        return self.decode_raw(latent / self.config.scale + self.config.shift)

    def decode_raw(self, z: Tensor) -> Tensor:
        """z [B, C, h, w] as the encoder draws it -> image [B, 3, 8h, 8w]"""
        z = channels_last(z)
        if self.post_quant_conv is not None:
            z = self.post_quant_conv(z)
        return self.decoder(z).contiguous()

    def forward(self, image: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """image [B, 3, H, W], noise [B, C, H/8, W/8] -> image again, mean, log variance"""
        mean, log_variance = self.posterior(image)
        z = mean if noise is None else mean + torch.exp(0.5 * log_variance) * noise
        return self.decode_raw(z), mean, log_variance


class _Attention(nn.Module):
    """Every cell looks at every other, with one head of full width, around a residual."""

    def __init__(self, config: AutoencoderSDConfig):
        super().__init__()
        width = config.widths[-1]
        self.group_norm = nn.GroupNorm(config.groups, width, _EPSILON)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]"""
        h = self.group_norm(x).flatten(2).mT[:, None]  # [B, 1, H * W, C]
        h = self.to_out(attend(self.to_q(h), self.to_k(h), self.to_v(h)))
        return x + h[:, 0].mT.unflatten(2, x.shape[2:])


class _Middle(nn.Module):
    """The lowest place of both halves."""

    def __init__(self, config: AutoencoderSDConfig):
        super().__init__()
        width = config.widths[-1]
        self.resnets = nn.ModuleList(_resnet(config, width, width) for _ in range(2))
        self.attentions = nn.ModuleList([_Attention(config)])

    def steps(self) -> Iterator[nn.Module]:
        """Maps of [B, C, H, W] to the same shape, in order."""
        yield from (self.resnets[0], self.attentions[0], self.resnets[1])


class _Level(nn.Module):
    """Residual blocks of one width, then the way to the next level's size, if there is one."""

    def __init__(self, config: AutoencoderSDConfig, before: int, width: int, count: int):
        super().__init__()
        widths = [before] + [width] * (count - 1)
        self.resnets = nn.ModuleList(_resnet(config, one, width) for one in widths)
        self.downsamplers, self.upsamplers = nn.ModuleList(), nn.ModuleList()

    def steps(self) -> Iterator[nn.Module]:
        """Maps from [B, before, H, W] to [B, width, H', W'], in order."""
        yield from (*self.resnets, *self.downsamplers, *self.upsamplers)


class _Encoder(nn.Module):
    """A picture to the mean and log variance of its latent."""

    def __init__(self, config: AutoencoderSDConfig):
        super().__init__()
        widths, before = config.widths, config.widths[0]
        self.conv_in = nn.Conv2d(config.image_channels, before, 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for number, width in enumerate(widths, 1):
            level = _Level(config, before, width, config.blocks)
            if number < len(widths):
                level.downsamplers.append(Downsample(width, centred=False))
            self.down_blocks.append(level)
            before = width
        self.mid_block = _Middle(config)
        self.conv_norm_out = nn.GroupNorm(config.groups, before, _EPSILON)
        self.conv_out = nn.Conv2d(before, 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, 2 C, H/8, W/8]"""
        levels = [*self.down_blocks, self.mid_block]
        return self.conv_out(_run(self.conv_in(x), levels, self.conv_norm_out))


class _Decoder(nn.Module):
    """A latent to a picture."""

    def __init__(self, config: AutoencoderSDConfig):
        super().__init__()
        widths = config.widths[::-1]
        before = widths[0]
        self.conv_in = nn.Conv2d(config.latent_channels, before, 3, padding=1)
        self.mid_block = _Middle(config)
        self.up_blocks = nn.ModuleList()
        for number, width in enumerate(widths, 1):
            level = _Level(config, before, width, config.blocks + 1)
            if number < len(widths):
                level.upsamplers.append(Upsample(width))
            self.up_blocks.append(level)
            before = width
        self.conv_norm_out = nn.GroupNorm(config.groups, before, _EPSILON)
        self.conv_out = nn.Conv2d(before, config.image_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, 3, 8h, 8w]"""
        levels = [self.mid_block, *self.up_blocks]
        return self.conv_out(_run(self.conv_in(x), levels, self.conv_norm_out))


def _run(x: Tensor, levels: Iterable[Any], norm: nn.Module) -> Tensor:
    """All steps of all levels in one loop, so that nobody holds what a step has used up."""
    for step in chain.from_iterable(level.steps() for level in levels):
        x = step(x)
    x = norm(x)
    return silu(x, inplace=True)


def _resnet(config: AutoencoderSDConfig, before: int, after: int) -> ResnetBlock:
    return ResnetBlock(before, after, groups=config.groups, eps=_EPSILON)
