"""SigLIP (Zhai et al., 2023) and SigLIP 2 of fixed size (Tschannen et al., 2025): every picture and
every text answer for themselves whether they belong together.

Names are those of the published `SiglipModel` folders, but for the trained query's attention,
whose query, key and value are matrices of their own here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import log
from typing import Any

import torch
from torch import Tensor, nn

from diptych.models.clip import unit
from diptych.models.clip_blocks import Activation, ClipLayers
from diptych.models.clip_text import TextEmbeddings
from diptych.models.vision_tower import VisionTower, VisionTowerConfig
from diptych.nn.blocks import RowLinear

# What SigLIP's vision towers have in common.
SIGLIP_TOWER = VisionTowerConfig(
    activation="gelu_tanh", class_token=False, placing="fixed", pooling="map"
)


@dataclass(frozen=True, kw_only=True)
class SigLIPTextConfig:
    """`projection`: width of the space with pictures."""

    vocabulary: int = 32000
    length: int = 64
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    activation: Activation = "gelu_tanh"
    norm_epsilon: float = 1e-6
    projection: int = 768

    @classmethod
    def tiny(cls, **changes: Any) -> SigLIPTextConfig:
        small = cls(vocabulary=40, length=10, width=24, depth=2, heads=4, hidden=40, projection=24)
        return replace(small, **changes)


@dataclass(frozen=True, kw_only=True)
class SigLIPConfig:
    """The picture's vector is as wide as its tower, and so must be the text's projection."""

    vision: VisionTowerConfig = field(default_factory=lambda: SIGLIP_TOWER)
    text: SigLIPTextConfig = field(default_factory=SigLIPTextConfig)

    @property
    def projection(self) -> int:
        """Numbers in a vector."""
        return self.vision.width

    @classmethod
    def tiny(cls, **changes: Any) -> SigLIPConfig:
        vision = replace(
            SIGLIP_TOWER, image_size=16, patch_size=4, width=24, depth=2, heads=4, hidden=40
        )
        return replace(cls(vision=vision, text=SigLIPTextConfig.tiny()), **changes)


SIGLIP_B16 = SigLIPConfig()
# The shape that Alabdulmohsin et al. (2023) found to be the best of 400 million parameters.
SIGLIP_SO400M_384 = SigLIPConfig(
    vision=replace(
        SIGLIP_TOWER, image_size=384, patch_size=14, width=1152, depth=27, heads=16, hidden=4304
    ),
    text=SigLIPTextConfig(width=1152, depth=27, heads=16, hidden=4304, projection=1152),
)


class SigLIPText(nn.Module):
    """Tokens that all see each other, to one vector: what stands in the last place."""

    def __init__(self, config: SigLIPTextConfig):
        super().__init__()
        self.config = config
        self.embeddings = TextEmbeddings(config)
        self.encoder = ClipLayers(config)
        self.final_layer_norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.head = RowLinear(config.width, config.projection)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens [B, L] int64, padded to `length` as in training, where the last place mostly is
        padding; mask [B, L] (True: may be seen; published weights have none) -> [B, D]"""
        seen = None if mask is None else mask[:, None, None]
        last = self.encoder(self.embeddings(tokens), seen)[-1][:, -1]
        return self.head(self.final_layer_norm(last))


class SigLIP(nn.Module):
    """Two towers, and how sharply and from where their angles are read."""

    def __init__(self, config: SigLIPConfig):
        super().__init__()
        self.config = config
        self.vision_model, self.text_model = VisionTower(config.vision), SigLIPText(config.text)
        # Where training starts (section 3.2): nearly all pairs are wrong.
        self.logit_scale = nn.Parameter(torch.tensor([log(10)]))
        self.logit_bias = nn.Parameter(torch.tensor([-10.0]))

    @property
    def scale(self) -> Tensor:
        """What a cosine is multiplied by to be a logit, [1]."""
        return self.logit_scale.exp()

    def encode_image(self, image: Tensor) -> Tensor:
        """image [B, 3, S, S] in -1..1 -> [B, D] of unit length, at least float32"""
        return unit(self.vision_model(image).pooled)

    def encode_text(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """As SigLIPText -> [B, D] of unit length, at least float32"""
        return unit(self.text_model(tokens, mask))

    def logits(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """unit vectors [N, D] and [M, D] -> [N, M]; a sigmoid makes each a probability"""
        return self.scale * (pictures @ texts.T) + self.logit_bias

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        """The logit of each picture with the text of its own row [B]."""
        cosine = (self.encode_image(image) * self.encode_text(tokens)).sum(-1)
        return self.scale * cosine + self.logit_bias
