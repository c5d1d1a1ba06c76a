"""Stable Diffusion 3 and 3.5 (Esser et al., 2024): a transformer over patches of the latent and
words, each with weights of its own, looking at both. 3.5 norms queries and keys; its medium size
looks at the picture alone a second time in its first blocks. Names of parameters are those of the
published folders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from diptych.foundation.errors import InvalidValue
from diptych.nn.adaptive import (
    JointAttention,
    Modulation,
    PictureAttention,
    TimeTextEmbedding,
    modulated,
    within,
)
from diptych.nn.multihead import FeedForward
from diptych.nn.patches import from_patches
from diptych.nn.positions import sine_grid
from diptych.nn.reuse import FirstBlocks

_TRAINED = 64  # patches a side of the first pictures: places are as far apart as there


@dataclass(frozen=True, kw_only=True)
class SD3Config:
    """`patch_size` in latent cells; `positions`: patches a side of the largest picture that has
    places; `normed`: queries and keys are (3.5); `dual`: blocks in which the picture also looks
    at itself alone."""

    in_channels: int = 16
    out_channels: int = 16
    patch_size: int = 2
    depth: int = 24
    heads: int = 24
    head_dim: int = 64
    context_width: int = 4096
    pooled_width: int = 2048
    positions: int = 192
    normed: bool = False
    dual: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if any(not 0 <= block < self.depth for block in self.dual):
            raise ValueError(f"dual {self.dual} names blocks beyond {self.depth}")

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.heads * self.head_dim

    @classmethod
    def tiny(cls, **changes: Any) -> SD3Config:
        small = cls(
            in_channels=4, out_channels=4, depth=3, heads=4, head_dim=8, context_width=24,
            pooled_width=20, positions=8, normed=True, dual=(0, 1),
        )  # fmt: skip
        return replace(small, **changes)


SD3_MEDIUM = SD3Config()
SD35_MEDIUM = SD3Config(normed=True, dual=tuple(range(13)), positions=384)
SD35_LARGE = SD3Config(depth=38, heads=38, normed=True)


class SD3(nn.Module):
    """Noisy latent, time and words to a velocity."""

    def __init__(self, config: SD3Config):
        super().__init__()
        self.config, width = config, config.width
        self.pos_embed = _Patches(config)
        self.time_text_embed = TimeTextEmbedding(config.pooled_width, width)
        self.context_embedder = nn.Linear(config.context_width, width)
        self.transformer_blocks = nn.ModuleList(_Block(config, i) for i in range(config.depth))
        self.norm_out = Modulation(width, 2)
        self.proj_out = nn.Linear(width, config.patch_size**2 * config.out_channels)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        pooled: Tensor,
        reuse: FirstBlocks | None = None,
    ) -> Tensor:
        """x [B, C, H, W], H and W whole patches; t [B] in 0..1000 (1000: noise); context
        [B, L, E], padding is read too; pooled [B, P] -> [B, C, H, W]. Raises InvalidValue for a
        picture that is larger than the places go."""
        h, y = self.pos_embed(x), self.context_embedder(context)
        c = self.time_text_embed(t, pooled)
        first, *others = self.transformer_blocks
        before = h
        h, y = first(h, y, c)

        def rest(h: Tensor, y: Tensor, c: Tensor) -> Tensor:
            for block in others:
                h, y = block(h, y, c)
            return h

        h = rest(h, y, c) if reuse is None else reuse.ended(before, h, rest, y, c)
        scale, shift = self.norm_out(c)
        h = self.proj_out(modulated(h, shift, scale))
        p = self.config.patch_size
        return from_patches(h, p, x.shape[2] // p, x.shape[3] // p)


class _Patches(nn.Module):
    """The latent in patches, each told where it lies, counted from the middle of the picture."""

    pos_embed: Tensor

    def __init__(self, config: SD3Config):
        super().__init__()
        self.side, width, p = config.positions, config.width, config.patch_size
        self.proj = nn.Conv2d(config.in_channels, width, p, stride=p)
        self.register_buffer("pos_embed", sine_grid(width, self.side, self.side, _TRAINED)[None])

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, N, D]"""
        h = self.proj(x)
        height, width = h.shape[2:]
        if max(height, width) > self.side:
            raise InvalidValue(
                f"{height} x {width} patches are more than the {self.side} a side that have "
                "places.",
                do="Choose a smaller picture.",
            )
        top, left = (self.side - height) // 2, (self.side - width) // 2
        places = self.pos_embed.unflatten(1, (self.side, self.side))
        places = places[:, top : top + height, left : left + width].flatten(1, 2)
        return h.flatten(2).mT + places.to(h.dtype)


class _Block(nn.Module):
    """Attention over picture and words together, then an MLP for each; in the last block for the
    picture alone."""

    def __init__(self, config: SD3Config, number: int):
        super().__init__()
        width, head_dim, normed = config.width, config.head_dim, config.normed
        dual, last = number in config.dual, number == config.depth - 1
        self.norm1 = Modulation(width, 9 if dual else 6)
        self.norm1_context = Modulation(width, 2 if last else 6)
        self.attn = JointAttention(width, head_dim, normed=normed, last=last)
        self.attn2 = PictureAttention(width, head_dim, normed=normed) if dual else None
        self.ff = FeedForward(width)
        self.ff_context = None if last else FeedForward(width)

    def forward(self, x: Tensor, y: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, N, D], y [B, L, D], c [B, D] -> x, y"""
        shift, scale, gate, shift2, scale2, gate2, *dual = self.norm1(c)
        told = self.norm1_context(c)
        # Of the last block's words the files have the scale first.
        words = modulated(y, *told[:2]) if self.ff_context else modulated(y, *told[::-1])
        seen, read = self.attn(modulated(x, shift, scale), words)
        alone = 0 if self.attn2 is None else dual[2] * self.attn2(modulated(x, *dual[:2]))
        x = x + gate * seen + alone
        x = x + gate2 * self.ff(modulated(x, shift2, scale2))
        if self.ff_context is None:
            return x, y
        y = y + told[2] * read
        return x, within(y + told[5] * self.ff_context(modulated(y, told[3], told[4])))
