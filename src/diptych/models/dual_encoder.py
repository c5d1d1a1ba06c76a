"""A picture and a sentence to two vectors that point the same way when they belong together
(CLIP, Radford et al., 2021), from the vision tower of `vision_language` and `text_encoder`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import log

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize

from diptych.models.text_encoder import TextEncoder, TextEncoderConfig
from diptych.models.vision_language import VisionConfig, VisionTransformer
from diptych.nn.blocks import RowLinear, zero_init
from diptych.nn.norms import RMSNorm

MOST_SCALE = log(100)  # beyond it a few pairs would make all of the gradient


@dataclass(frozen=True, kw_only=True)
class DualEncoderConfig:
    """`width` of the common space; `pool_width` numbers are averaged over patches or words, with
    weights of their own for each of `pool_heads` parts."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextEncoderConfig = field(default_factory=lambda: TextEncoderConfig(length=96))
    width: int = 128
    pool_width: int = 512
    pool_heads: int = 8

    @classmethod
    def tiny(cls, **changes: int) -> DualEncoderConfig:
        vision = VisionConfig(image_size=32, stem=(8, 8), width=32, depth=1, head_dim=16)
        small = cls(
            vision=vision, text=TextEncoderConfig.tiny(), width=16, pool_width=32, pool_heads=2
        )
        return replace(small, **changes)


class Pool(nn.Module):
    """Many vectors to one: weighted means of what each says, plain means at first.

    A mean of features keeps what is there and how many of it (Zaheer et al., 2017).
    """

    def __init__(self, width: int, hidden: int, heads: int, out: int):
        super().__init__()
        self.heads = heads
        self.weight_head = zero_init(nn.Linear(width, heads))
        self.value = nn.Linear(width, hidden)
        self.norm = RMSNorm(hidden)
        self.space_out = RowLinear(hidden, out)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x [B, N, C], mask [B, N] (True: counts) -> [B, D]"""
        scores = self.weight_head(x).float()
        if mask is not None:
            scores = scores.masked_fill(~mask[..., None], float("-inf"))
        weights = scores.softmax(dim=1)[..., None]
        values = gelu(self.value(x)).unflatten(-1, (self.heads, -1))
        pooled = (weights * values).sum(dim=1).flatten(1)
        return self.space_out(self.norm(pooled.to(self.space_out.weight.dtype)))


class DualEncoderNetwork(nn.Module):
    """Two towers, a pool behind each, and how sharply their angles are read."""

    def __init__(self, config: DualEncoderConfig):
        super().__init__()
        self.config = config
        self.vision, self.text = VisionTransformer(config.vision), TextEncoder(config.text)
        rest = (config.pool_width, config.pool_heads, config.width)
        self.vision_pool = Pool(config.vision.width, *rest)
        self.text_pool = Pool(config.text.width, *rest)
        self.logit_scale = nn.Parameter(torch.tensor(log(1 / 0.07)))

    @property
    def scale(self) -> Tensor:
        """What a cosine is multiplied by to be a logit, 0..100, []."""
        return self.logit_scale.clamp(max=MOST_SCALE).exp()

    def encode_image(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] in -1..1 -> [B, D] float32 of unit length"""
        return normalize(self.vision_pool(self.vision(image)).float(), dim=-1)

    def encode_text(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens [B, L] int64, mask [B, L] (True: a token) -> [B, D] float32 of unit length"""
        context, _ = self.text(tokens, mask)
        return normalize(self.text_pool(context, mask).float(), dim=-1)

    def forward(self, image: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """The logit of each picture with the sentence of its own row [B]."""
        cosine = (self.encode_image(image) * self.encode_text(tokens, mask)).sum(-1)
        return self.scale * cosine
