"""CLIP's picture transformer (Radford et al., 2021; Dosovitskiy et al., 2021): a class token and
patches. Names are those of the published `image_encoder` folders, without their `vision_model.`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diptych.models.clip_blocks import Activation, ClipLayers
from diptych.nn.blocks import RowLinear


@dataclass(frozen=True, kw_only=True)
class CLIPVisionConfig:
    """`image_size` and `patch` in pixels; `projection`: of the space with texts, 0 for none."""

    image_size: int = 224
    patch: int = 14
    width: int = 1024
    depth: int = 24
    heads: int = 16
    hidden: int = 4096
    activation: Activation = "quick_gelu"
    norm_epsilon: float = 1e-5
    projection: int = 768

    @property
    def tokens(self) -> int:
        """Patches and the class."""
        return (self.image_size // self.patch) ** 2 + 1

    @classmethod
    def tiny(cls, **changes: Any) -> CLIPVisionConfig:
        small = cls(image_size=16, patch=4, width=24, depth=3, heads=4, hidden=40, projection=20)
        return replace(small, **changes)


CLIP_VISION_L = CLIPVisionConfig()
# The image encoders of IP-Adapters for SD 1, and for SDXL (whose Plus takes H as well).
OPENCLIP_VISION_H = CLIPVisionConfig(
    width=1280, depth=32, heads=16, hidden=5120, activation="gelu", projection=1024
)
OPENCLIP_VISION_BIGG = CLIPVisionConfig(
    width=1664, depth=48, heads=16, hidden=8192, activation="gelu", projection=1280
)


class CLIPVisionStates(NamedTuple):
    """`layers`: depth + 1 states [B, N, D], the normed embeddings first; `pooled` [B, D]: the class
    after the last norm; `projected` [B, P] or None."""

    layers: tuple[Tensor, ...]
    pooled: Tensor
    projected: Tensor | None


class CLIPVision(nn.Module):
    """A picture to the states of its patches, and to one vector."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        # Spelt so in every file.
        self.pre_layrnorm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.encoder = ClipLayers(config)
        self.post_layernorm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.visual_projection = (
            RowLinear(config.width, config.projection, bias=False) if config.projection else None
        )

    def forward(self, image: Tensor) -> CLIPVisionStates:
        """image [B, 3, S, S], normalized with CLIP's mean and deviation"""
        layers = self.encoder(self.pre_layrnorm(self.embeddings(image)))
        pooled = self.post_layernorm(layers[-1][:, 0])
        project = self.visual_projection
        return CLIPVisionStates(layers, pooled, None if project is None else project(pooled))


class _Embeddings(nn.Module):
    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(config.width) * config.width**-0.5)
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch, config.patch, bias=False)
        self.position_embedding = nn.Embedding(config.tokens, config.width)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, N, D]"""
        patches = self.patch_embedding(image).flatten(2).mT
        first = self.class_embedding.expand(len(image), 1, -1)
        return torch.cat([first, patches], dim=1) + self.position_embedding.weight
