"""ControlNet Union (ControlNet++, xinsir, 2024): one ControlNet for several kinds of pictures, told
which it is shown. Names of parameters are those of the published folders."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from diptych.models.clip_blocks import quick_gelu
from diptych.models.controlnet import ControlNet, ControlNetConfig
from diptych.models.unet import SDXL, UNetConfig
from diptych.models.unet_blocks import TimeEmbedding
from diptych.nn.blocks import RowLinear, row_linear, zero_init
from diptych.nn.positions import number_features

# Of the published network, in its order.
KINDS = ("openpose", "depth", "scribble", "canny", "normal", "segment")


@dataclass(frozen=True, kw_only=True)
class ControlNetUnionConfig:
    """`control`: as a ControlNet; `kinds`: of pictures, each told by `kind_width` waves; `width` of
    the vector that stands for a picture, and `heads` and `depth` of what it passes through."""

    control: ControlNetConfig = field(
        default_factory=lambda: ControlNetConfig(unet=SDXL, hint_widths=(48, 96, 192, 384))
    )
    kinds: int = 6
    kind_width: int = 256
    width: int = 320
    heads: int = 8
    depth: int = 1

    def __post_init__(self) -> None:
        if self.width != self.control.unet.widths[0]:
            raise ValueError("the vector of a picture is as wide as its features")

    @classmethod
    def tiny(cls, **changes: object) -> ControlNetUnionConfig:
        control = ControlNetConfig.tiny(unet=UNetConfig.tiny())
        return replace(cls(control=control, kinds=3, kind_width=8, width=32, heads=4), **changes)


CONTROLNET_UNION_SDXL = ControlNetUnionConfig()


class ControlNetUnion(ControlNet):
    """A ControlNet whose picture is of one of several kinds."""

    def __init__(self, config: ControlNetUnionConfig):
        super().__init__(config.control)
        self.config = config
        width = config.width
        self.task_embedding = nn.Parameter(torch.randn(config.kinds, width) * width**0.5)
        # Spelt so in the files.
        self.transformer_layes = nn.ModuleList(_Block(width) for _ in range(config.depth))
        self.spatial_ch_projs = zero_init(RowLinear(width, width))
        told = config.kind_width * config.kinds
        self.control_add_embedding = TimeEmbedding(told, config.control.unet.time_width)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        hint: Tensor,
        kind: Tensor,
        vector: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """As a ControlNet's, with the kind [B] of each picture."""
        return self.told(x, t, context, self.hint(hint), kind, vector)

    def told(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        hint: Tensor,
        kind: Tensor,
        vector: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Like `forward`, with the hint's features [B, C, H, W]."""
        z = hint.mean(dim=(2, 3)) + self.task_embedding[kind]
        for block in self.transformer_layes:
            z = block(z)
        shown = hint + self.spatial_ch_projs(z)[:, :, None, None]
        given = one_hot(kind, self.config.kinds)
        kinds = number_features(given, self.config.kind_width, x.dtype)
        return self.residuals(x, t, context, shown, vector, self.control_add_embedding(kinds))


class _Block(nn.Module):
    """A pre-norm transformer block over the vectors of one row's pictures. The published network
    lets a vector look at its like in the other rows of the batch, and at nothing else: in a row
    by itself each sees itself alone, which is what it is here whatever its neighbours."""

    def __init__(self, width: int):
        super().__init__()
        self.attn = _SeesItself(width)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = _MLP(width)

    def forward(self, z: Tensor) -> Tensor:
        """[B, D] -> [B, D]"""
        z = z + self.attn(self.ln_1(z))
        return z + self.mlp(self.ln_2(z))


class _SeesItself(nn.Module):
    """Attention over one place is its value. The first two thirds of `in_proj` make queries and
    keys, which then do not matter."""

    def __init__(self, width: int):
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = RowLinear(width, width)

    def forward(self, z: Tensor) -> Tensor:
        """[B, D] -> [B, D]"""
        weight, bias = self.in_proj_weight.chunk(3)[2], self.in_proj_bias.chunk(3)[2]
        return self.out_proj(row_linear(z, weight, bias))


class _MLP(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.c_fc, self.c_proj = RowLinear(width, 4 * width), RowLinear(4 * width, width)

    def forward(self, z: Tensor) -> Tensor:
        """[B, D] -> [B, D]"""
        return self.c_proj(quick_gelu(self.c_fc(z)))
