"""CLIP (Radford et al., 2021): a vision tower and a text tower whose vectors point the same way
when picture and text belong together. OpenCLIP's (Cherti et al., 2023) and MetaCLIP's (Xu et al.,
2024) are the same networks.

Names are those of the published `CLIPModel` folders.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import log
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from diptych.models.clip_text import CLIPText, CLIPTextConfig
from diptych.models.dual_encoder import MOST_SCALE
from diptych.models.vision_tower import VisionTower, VisionTowerConfig
from diptych.nn.blocks import RowLinear

# What CLIP's vision towers have in common.
CLIP_TOWER = VisionTowerConfig(
    activation="quick_gelu", norm_epsilon=1e-5, patch_bias=False, input_norm=True, placing="fixed"
)
_TEXT_B = CLIPTextConfig(width=512, heads=8, hidden=2048)


@dataclass(frozen=True, kw_only=True)
class CLIPConfig:
    """`projection`: width of the space of pictures and texts. The towers have none of their own."""

    vision: VisionTowerConfig = field(default_factory=lambda: replace(CLIP_TOWER, patch_size=32))
    text: CLIPTextConfig = field(default_factory=lambda: _TEXT_B)
    projection: int = 512

    @classmethod
    def tiny(cls, **changes: Any) -> CLIPConfig:
        vision = replace(
            CLIP_TOWER, image_size=16, patch_size=4, width=24, depth=2, heads=4, hidden=40
        )
        small = cls(vision=vision, text=CLIPTextConfig.tiny(projection=0), projection=20)
        return replace(small, **changes)


CLIP_B32 = CLIPConfig()
CLIP_L14_336 = CLIPConfig(
    vision=replace(
        CLIP_TOWER, image_size=336, patch_size=14, width=1024, depth=24, heads=16, hidden=4096
    ),
    text=CLIPTextConfig(),
    projection=768,
)
OPENCLIP_H14 = CLIPConfig(
    vision=replace(
        CLIP_TOWER, patch_size=14, width=1280, depth=32, heads=16, hidden=5120, activation="gelu"
    ),
    text=CLIPTextConfig(width=1024, depth=24, heads=16, hidden=4096, activation="gelu"),
    projection=1024,
)


class CLIP(nn.Module):
    """Two towers, a projection behind each, and how sharply their angles are read."""

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.config = config
        self.vision_model, self.text_model = VisionTower(config.vision), CLIPText(config.text)
        out = config.projection
        self.visual_projection = RowLinear(config.vision.width, out, bias=False)
        self.text_projection = RowLinear(config.text.width, out, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(log(1 / 0.07)))

    @property
    def scale(self) -> Tensor:
        """What a cosine is multiplied by to be a logit, 0..100, []."""
        return self.logit_scale.clamp(max=MOST_SCALE).exp()

    def encode_image(self, image: Tensor) -> Tensor:
        """image [B, 3, S, S], normalized with CLIP's mean and deviation -> [B, D] of unit length,
        at least float32"""
        pooled = self.vision_model(image).pooled
        return unit(self.visual_projection(pooled))

    def encode_text(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens [B, L] int64, `eos` in every row; mask [B, L] (True: a token), which changes
        nothing: behind its end no text is read -> [B, D] of unit length, at least float32"""
        return unit(self.text_projection(self.text_model(tokens, mask).pooled))

    def logits(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """unit vectors [N, D] and [M, D] -> [N, M]; a softmax over texts makes them shares"""
        return self.scale * (pictures @ texts.T)

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        """The logit of each picture with the text of its own row [B]."""
        return self.scale * (self.encode_image(image) * self.encode_text(tokens)).sum(-1)


def unit(vectors: Tensor) -> Tensor:
    """[B, D] of length 1, at least in float32: half precision would move the cosines."""
    return normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1)
