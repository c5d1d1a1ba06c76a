"""CLIP's picture transformer (Radford et al., 2021; Dosovitskiy et al., 2021): a class token and
patches. Names are those of the published `image_encoder` folders, without their `vision_model.`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor, nn

from diptych.models.clip_blocks import Activation, ClipLayers
from diptych.models.vision_blocks import PatchEmbeddings
from diptych.models.vision_tower import VisionTowerConfig
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

    @property
    def tower(self) -> VisionTowerConfig:
        """The same as a row of the vision tower's table, without the projection."""
        return VisionTowerConfig(
            image_size=self.image_size,
            patch_size=self.patch,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            hidden=self.hidden,
            activation=self.activation,
            norm_epsilon=self.norm_epsilon,
            patch_bias=False,
            input_norm=True,
            placing="fixed",
        )

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
        self.embeddings = PatchEmbeddings(config.tower)
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
