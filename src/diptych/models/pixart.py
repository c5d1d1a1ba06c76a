"""PixArt-alpha (Chen et al., 2023) and PixArt-Sigma (Chen et al., 2024): a diffusion transformer
that looks at words, with one modulation for all blocks and an offset in each (adaLN-single,
section 2.3). Names are those of the published folders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

from diptych.nn.adaptive import TimeEmbedding
from diptych.nn.blocks import RowLinear
from diptych.nn.multihead import FeedForward, MultiHead
from diptych.nn.norms import bare_layer_norm
from diptych.nn.patches import PatchEmbed, from_patches
from diptych.nn.positions import number_features, timestep_features
from diptych.nn.reuse import FirstBlocks

_FEATURES = 256


@dataclass(frozen=True, kw_only=True)
class PixArtConfig:
    """`side`: of the latents it was trained with, in cells; `interpolation`: how much larger they
    are than those it began with. `sizes`: whether it is told height and width. Of `out_channels`
    the second half is the variance."""

    in_channels: int = 4
    out_channels: int = 8
    patch_size: int = 2
    side: int = 128
    interpolation: float = 2.0
    width: int = 1152
    depth: int = 28
    heads: int = 16
    context_width: int = 4096
    sizes: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 4 or (self.sizes and self.width % 3):
            raise ValueError(f"{self.width} channels do not part into heads, positions and sizes")

    @classmethod
    def tiny(cls, **changes: Any) -> PixArtConfig:
        small = cls(side=8, interpolation=1.0, width=24, depth=2, heads=2, context_width=16)
        return replace(small, **changes)


PIXART_ALPHA = PixArtConfig(sizes=True)
PIXART_ALPHA_512 = PixArtConfig(side=64, interpolation=1.0)
PIXART_SIGMA = PixArtConfig()


class _Conditions(nn.Module):
    """Time, and beside it height, width and their ratio, a third of the channels each."""

    def __init__(self, config: PixArtConfig):
        super().__init__()
        self.timestep_embedder = TimeEmbedding(_FEATURES, config.width)
        third = config.width // 3
        self.resolution_embedder = TimeEmbedding(_FEATURES, third) if config.sizes else None
        self.aspect_ratio_embedder = TimeEmbedding(_FEATURES, third) if config.sizes else None

    def forward(self, t: Tensor, size: Tensor | None) -> Tensor:
        """t [B], size [B, 2] -> [B, D]"""
        embed, ratios = self.timestep_embedder, self.aspect_ratio_embedder
        if (size is None) != (ratios is None):
            raise ValueError("a size is for networks with sizes, and needed there")
        kind = embed.linear_1.weight.dtype
        c = embed(timestep_features(t, _FEATURES, kind))
        if self.resolution_embedder is None or ratios is None or size is None:
            return c
        sides = self.resolution_embedder(number_features(size, _FEATURES, kind).view(-1, _FEATURES))
        ratio = ratios(timestep_features(size[:, 0] / size[:, 1], _FEATURES, kind))
        return c + torch.cat([sides.view(len(size), -1), ratio], dim=1)


class _Modulation(nn.Module):
    def __init__(self, config: PixArtConfig):
        super().__init__()
        self.emb = _Conditions(config)
        self.linear = RowLinear(config.width, 6 * config.width)

    def forward(self, t: Tensor, size: Tensor | None) -> tuple[Tensor, Tensor]:
        """t [B], size [B, 2] -> shift, gain and gate twice [B, 6, 1, D], what the end is told
        [B, 1, D]"""
        c = self.emb(t, size)
        return self.linear(silu(c)).unflatten(1, (6, 1, -1)), c[:, None]


class _Words(nn.Module):
    def __init__(self, config: PixArtConfig):
        super().__init__()
        self.linear_1 = nn.Linear(config.context_width, config.width)
        self.linear_2 = nn.Linear(config.width, config.width)

    def forward(self, context: Tensor) -> Tensor:
        """[B, L, E] -> [B, L, D]"""
        return self.linear_2(gelu(self.linear_1(context), approximate="tanh"))


class PixArtBlock(nn.Module):
    """Patches look at each other, at the words (without a norm), then think."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(6, width) / width**0.5)
        self.attn1, self.attn2 = MultiHead(width, heads), MultiHead(width, heads)
        self.ff = FeedForward(width)

    def forward(self, h: Tensor, c: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """h [B, N, D], c [B, 6, 1, D], context [B, L, D], mask [B, 1, 1, L] -> [B, N, D]"""
        told = (c + self.scale_shift_table[:, None]).unbind(1)
        shift, scale, gate, last_shift, last_scale, last_gate = told
        h = h + gate * self.attn1(bare_layer_norm(h) * (1 + scale) + shift)
        h = h + self.attn2(h, context, mask)
        return h + last_gate * self.ff(bare_layer_norm(h) * (1 + last_scale) + last_shift)


class PixArt(nn.Module):
    """Noisy latent, time and words to a prediction and its variance."""

    def __init__(self, config: PixArtConfig):
        super().__init__()
        self.config, width, p = config, config.width, config.patch_size
        self.pos_embed = PatchEmbed(
            config.in_channels, width, p, base=config.side // p, scale=config.interpolation
        )
        self.adaln_single = _Modulation(config)
        self.caption_projection = _Words(config)
        self.transformer_blocks = nn.ModuleList(
            PixArtBlock(width, config.heads) for _ in range(config.depth)
        )
        self.scale_shift_table = nn.Parameter(torch.randn(2, width) / width**0.5)
        self.proj_out = nn.Linear(width, p * p * config.out_channels)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        mask: Tensor,
        size: Tensor | None = None,
        reuse: FirstBlocks | None = None,
    ) -> Tensor:
        """x [B, C, H, W], t [B] in 0..1000, context [B, L, E], mask [B, L] bool (True: a word),
        size [B, 2] height and width in pixels -> [B, C', H, W]"""
        p = self.config.patch_size
        told, end = self.adaln_single(t, size)
        words, seen = self.caption_projection(context), mask[:, None, None]
        h = self.pos_embed(x)
        first, *others = self.transformer_blocks
        before, h = h, first(h, told, words, seen)

        def rest(h: Tensor, told: Tensor, words: Tensor, seen: Tensor) -> Tensor:
            for block in others:
                h = block(h, told, words, seen)
            return h

        h = (
            rest(h, told, words, seen)
            if reuse is None
            else reuse.ended(before, h, rest, told, words, seen)
        )
        shift, scale = (end + self.scale_shift_table).chunk(2, dim=1)
        h = self.proj_out(bare_layer_norm(h) * (1 + scale) + shift)
        return from_patches(h, p, x.shape[2] // p, x.shape[3] // p)
