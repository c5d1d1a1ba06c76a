"""ControlNet (Zhang et al., 2023): a second copy of the U-Net's way down that is shown a picture of
edges, depth or the like, and what it adds to the states of the first. Names of parameters are
those of the published folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from diptych.models.unet import SDXL, UNetConfig, UNetEncoder
from diptych.nn.blocks import zero_init
from diptych.nn.conv import channels_last


@dataclass(frozen=True, kw_only=True)
class ControlNetConfig:
    """`unet`: of the network that is controlled; `hint_widths`: channels of the hint's
    convolutions, each but the first at half the size of the one before."""

    unet: UNetConfig = field(default_factory=UNetConfig)
    hint_channels: int = 3
    hint_widths: tuple[int, ...] = (16, 32, 96, 256)

    @classmethod
    def tiny(cls, **changes: object) -> ControlNetConfig:
        return replace(cls(unet=UNetConfig.tiny(), hint_widths=(8, 16)), **changes)


CONTROLNET_SD1 = ControlNetConfig()
CONTROLNET_SDXL = ControlNetConfig(unet=SDXL)


class ControlNet(UNetEncoder):
    """A noisy latent, time, words and a hint to what the U-Net's states should have besides."""

    def __init__(self, config: ControlNetConfig):
        super().__init__(config.unet)
        self.config, self.unet = config, config.unet
        widths = config.unet.state_widths
        self.controlnet_cond_embedding = _Hint(config)
        self.controlnet_down_blocks = nn.ModuleList(_nothing_yet(width) for width in widths)
        self.controlnet_mid_block = _nothing_yet(widths[-1])

    def hint(self, picture: Tensor) -> Tensor:
        """picture [B, 3, 8H, 8W] in 0..1 -> its features [B, C, H, W], the same at every step"""
        return self.controlnet_cond_embedding(picture)

    def residuals(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        hint: Tensor,
        vector: Tensor | None = None,
        beside: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Like `forward`, with the hint's features [B, C, H, W] in place of the hint; `beside`
        [B, T] is told with the time."""
        time = self.times(t, vector, beside)
        states = self.encode(self.conv_in(x) + hint, time, context)
        middle = self.mid_block(states[-1], time, context)
        outs = [*self.controlnet_down_blocks, self.controlnet_mid_block]
        return tuple(out(h) for out, h in zip(outs, [*states, middle], strict=True))

    def forward(
        self, x: Tensor, t: Tensor, context: Tensor, hint: Tensor, vector: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """x [B, C, H, W], t [B] in 0..1000, context [B, L, D], hint [B, 3, 8H, 8W] in 0..1, vector
        [B, V] -> `*down_residuals, mid_residual` of the U-Net's forward"""
        return self.residuals(x, t, context, self.hint(hint), vector)


class _Hint(nn.Module):
    """A picture to features of the size of its latent."""

    def __init__(self, config: ControlNetConfig):
        super().__init__()
        widths = config.hint_widths
        self.conv_in = nn.Conv2d(config.hint_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for before, after in pairwise(widths):
            self.blocks.append(nn.Conv2d(before, before, 3, padding=1))
            self.blocks.append(nn.Conv2d(before, after, 3, stride=2, padding=1))
        self.conv_out = zero_init(nn.Conv2d(widths[-1], config.unet.widths[0], 3, padding=1))

    def forward(self, picture: Tensor) -> Tensor:
        """[B, 3, 8H, 8W] -> [B, C, H, W]"""
        h = silu(self.conv_in(channels_last(picture)), inplace=True)
        for conv in self.blocks:
            h = silu(conv(h), inplace=True)
        return self.conv_out(h).contiguous()


def weighed(
    residuals: Sequence[Tensor], strength: float | Tensor, *, guess: bool = False
) -> tuple[Tensor, ...]:
    """The residuals times a strength for all rows, or for each, [B].

    `guess`: rising from a tenth at the first to all in the middle, for prompts that say nothing.
    """
    like, count = residuals[-1], len(residuals)
    wide = torch.promote_types(like.dtype, torch.float32)
    rows = torch.as_tensor(strength, dtype=wide, device=like.device).reshape(-1, 1, 1, 1)
    shares = torch.logspace(-1, 0, count).tolist() if guess else [1.0] * count
    pairs = zip(residuals, shares, strict=True)
    return tuple((part * (share * rows)).to(part.dtype) for part, share in pairs)


def _nothing_yet(width: int) -> nn.Linear | nn.Conv2d:
    return zero_init(nn.Conv2d(width, width, 1))
