"""The picture transformers that language models look through: CLIP's, SigLIP's and InternViT, by
flags (Dosovitskiy et al., 2021; Radford et al., 2021; Zhai et al., 2023; Chen et al., 2024). Names
are those of CLIP's published folders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from diptych.models.clip_blocks import Activation, ClipLayer


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """`image_size` and `patch` in pixels. `class_token` before the patches; `patch_bias` of the
    convolution; `pre_norm` before the first layer; `scaled` branches (InternViT); `bias` of
    queries, keys and values.

    `layer`: whose states are given, counted from the last, which is -1; those behind it are never
    built. `post_norm`: they are normed. `drops_class`: the class token is left out of them.
    """

    image_size: int = 336
    patch: int = 14
    width: int = 1024
    depth: int = 24
    heads: int = 16
    hidden: int = 4096
    activation: Activation = "quick_gelu"
    norm_epsilon: float = 1e-5
    class_token: bool = True
    patch_bias: bool = False
    pre_norm: bool = True
    scaled: bool = False
    bias: bool = True
    layer: int = -2
    post_norm: bool = False
    drops_class: bool = True

    @classmethod
    def tiny(cls, **changes: Any) -> TowerConfig:
        small = cls(image_size=16, patch=4, width=24, depth=3, heads=4, hidden=40)
        return replace(small, **changes)

    @property
    def side(self) -> int:
        """Patches in a row."""
        return self.image_size // self.patch

    @property
    def used(self) -> int:
        """Layers that are needed."""
        return self.depth + 1 + self.layer


class VisionTower(nn.Module):
    """Pictures to the states of their patches."""

    def __init__(self, config: TowerConfig):
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        norms = config.width, config.norm_epsilon
        # Spelt so in every file.
        self.pre_layrnorm = nn.LayerNorm(norms[0], eps=norms[1]) if config.pre_norm else None
        self.encoder = _Layers(config)
        self.post_layernorm = nn.LayerNorm(norms[0], eps=norms[1]) if config.post_norm else None

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, S, S], normalized as it was trained -> states [B, N, D], N the patches, and
        the class token before them if it is not dropped"""
        h = self.embeddings(image)
        if self.pre_layrnorm is not None:
            h = self.pre_layrnorm(h)
        for layer in self.encoder.layers:
            h = layer(h)
        if self.post_layernorm is not None:
            h = self.post_layernorm(h)
        return h[:, 1:] if self.config.class_token and self.config.drops_class else h


class _Layers(nn.Module):
    def __init__(self, config: TowerConfig):
        super().__init__()
        layers = (
            ClipLayer(config, scaled=config.scaled, bias=config.bias) for _ in range(config.used)
        )
        self.layers = nn.ModuleList(layers)


class _Embeddings(nn.Module):
    def __init__(self, config: TowerConfig):
        super().__init__()
        width = config.width
        self.class_embedding = (
            nn.Parameter(torch.randn(width) * width**-0.5) if config.class_token else None
        )
        self.patch_embedding = nn.Conv2d(
            3, width, config.patch, config.patch, bias=config.patch_bias
        )
        self.position_embedding = nn.Embedding(config.side**2 + config.class_token, width)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, N, D]"""
        h = self.patch_embedding(image).flatten(2).mT
        if self.class_embedding is not None:
            h = torch.cat([self.class_embedding.expand(len(h), 1, -1), h], dim=1)
        return h + self.position_embedding.weight
