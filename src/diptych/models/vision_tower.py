"""One vision transformer (Dosovitskiy et al., 2021) for the towers that were published: CLIP,
SigLIP and fixed-size SigLIP 2, DINOv2 with and without registers, InternViT, and the SigLIP of
Idefics3, SmolVLM and PaliGemma. What tells them apart is data in `VisionTowerConfig`.

Names are those of the published CLIP and SigLIP folders, without their `vision_model.`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from diptych.foundation.errors import InvalidValue
from diptych.models.clip_blocks import Activation
from diptych.models.vision_blocks import (
    DenseHead,
    Feedforward,
    MapHead,
    NormKind,
    PatchEmbeddings,
    Placing,
    TowerLayer,
)

# How one vector is made of a picture: the class token; that through a layer and tanh; a trained
# query; none is made.
Pooling = Literal["class", "dense", "map", "none"]


@dataclass(frozen=True, kw_only=True)
class VisionTowerConfig:
    """`image_size` (of the trained, square pictures) and `patch_size` in pixels.

    `layer_scale`: what its factors start from, 0 for none. `input_norm`: before the first layer,
    CLIP's. `output_norm`: after the last. `registers` need a class token. `mask_token`: what
    stands for hidden patches in training.
    """

    image_size: int = 224
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    activation: Activation = "gelu"
    feedforward: Feedforward = "plain"
    norm: NormKind = "layer"
    norm_epsilon: float = 1e-6
    class_token: bool = True
    registers: int = 0
    mask_token: bool = False
    patch_bias: bool = True
    qkv_bias: bool = True
    qk_norm: bool = False
    layer_scale: float = 0.0
    input_norm: bool = False
    output_norm: bool = True
    placing: Placing = "bicubic"
    pooling: Pooling = "class"

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads:
            raise InvalidValue(
                f"A width of {self.width} has no {self.heads} equal heads.",
                do=f"{gcd(self.width, self.heads)} divides it.",
            )
        if not self.class_token and (self.registers or self.pooling in ("class", "dense")):
            what = "registers" if self.registers else f"pooling {self.pooling!r}"
            raise InvalidValue(f"There are no {what} without a class token.", do="class_token=True")
        if self.placing == "fractional" and self.prefix:
            raise InvalidValue(
                "Fractional places are for patches alone.", do="class_token=False, registers=0"
            )

    @property
    def prefix(self) -> int:
        """Rows before the patches: class and registers."""
        return int(self.class_token) + self.registers

    @classmethod
    def tiny(cls, **changes: Any) -> VisionTowerConfig:
        small = cls(
            image_size=16, patch_size=4, width=24, depth=3, heads=4, hidden=40,
            registers=2, layer_scale=1.0, pooling="map",
        )  # fmt: skip
        return replace(small, **changes)


VIT_B = VisionTowerConfig(norm_epsilon=1e-12, placing="fixed", pooling="dense")
# Trained at 518 pixels; the positions of other sizes are resized.
DINOV2_B = VisionTowerConfig(image_size=518, patch_size=14, mask_token=True, layer_scale=1.0)
DINOV2_L = replace(DINOV2_B, width=1024, depth=24, heads=16, hidden=4096)
DINOV2_G = replace(DINOV2_B, width=1536, depth=40, heads=24, hidden=4096, feedforward="swiglu")
INTERNVIT_300M = VisionTowerConfig(
    image_size=448, patch_size=14, width=1024, depth=24, heads=16, hidden=4096,
    layer_scale=0.1, output_norm=False, pooling="none",
)  # fmt: skip


class VisionStates(NamedTuple):
    """`states` [B, N, D]: class, registers and patches after the asked layer, not normed.

    `last` [B, N, D]: those after the last layer through the output norm, and `pooled` [B, D]; both
    None where the last layers were not run, `pooled` also where nothing pools.
    """

    states: Tensor
    last: Tensor | None
    pooled: Tensor | None


class VisionTower(nn.Module):
    """A picture to the states of its patches, and to one vector."""

    def __init__(self, config: VisionTowerConfig):
        super().__init__()
        self.config = config
        self.embeddings = PatchEmbeddings(config)
        norm = nn.LayerNorm(config.width, eps=config.norm_epsilon) if config.input_norm else None
        # Spelt so in every file.
        self.pre_layrnorm = norm
        self.encoder = TowerLayers(config)
        self.post_layernorm = (
            nn.LayerNorm(config.width, eps=config.norm_epsilon) if config.output_norm else None
        )
        self.head = _HEADS[config.pooling](config)

    def forward(
        self,
        image: Tensor,
        *,
        layer: int = -1,
        filled: Tensor | None = None,
        masked: Tensor | None = None,
    ) -> VisionStates:
        """image [B, 3, H, W], normalized as the tower was trained; H and W of the config's size,
        or others where `placing` knows places for them.

        `layer`: 0 for what goes into the first, `depth` or -1 for what comes out of the last, -2
        for what goes into it (Liu et al., 2023, LLaVA); layers behind it are not run. `filled`
        [B, h, w] bool: patches that hold any of the picture; the others are seen by none.
        `masked` [B, h * w] bool: patches that are hidden. Raises InvalidValue.
        """
        depth = self.config.depth
        if not -depth - 1 <= layer <= depth:
            raise InvalidValue(
                f"There is no layer {layer} in a tower of {depth}.", do=f"-{depth + 1} to {depth}."
            )
        h = self.embeddings(image, filled, masked)
        if self.pre_layrnorm is not None:
            h = self.pre_layrnorm(h)
        seen = None if filled is None else filled.flatten(1)[:, None, None]
        asked = layer % (depth + 1)
        h = self.encoder(h, seen, asked)
        if asked < depth:
            return VisionStates(h, None, None)
        last = h if self.post_layernorm is None else self.post_layernorm(h)
        return VisionStates(h, last, self._pooled(last, seen))

    def _pooled(self, last: Tensor, seen: Tensor | None) -> Tensor | None:
        """[B, N, D] -> [B, D]"""
        if self.config.pooling == "class":
            return last[:, 0]
        if isinstance(self.head, MapHead):
            return self.head(last, seen)
        return None if self.head is None else self.head(last)


class TowerLayers(nn.Module):
    def __init__(self, config: VisionTowerConfig):
        super().__init__()
        self.layers = nn.ModuleList(TowerLayer(config) for _ in range(config.depth))

    def forward(self, h: Tensor, seen: Tensor | None, count: int) -> Tensor:
        """[B, N, D] -> [B, N, D] after the first `count` layers"""
        for layer in self.layers[:count]:
            h = layer(h, seen)
        return h


_HEADS = {
    "class": lambda config: None,
    "dense": lambda config: DenseHead(config.width),
    "map": MapHead,
    "none": lambda config: None,
}
