"""The diffusion transformer DiT (Peebles and Xie, 2023): a latent of patches, told its time and a
class by the gains, shifts and gates of every block (adaLN-Zero, section 3.2).

Names are those of the published folders, but for the embedder of time and class: folders have it
in each block, and all of them are one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import silu

from diptych.nn.adaptive import TimeEmbedding
from diptych.nn.blocks import RowLinear
from diptych.nn.multihead import FeedForward, MultiHead
from diptych.nn.norms import bare_layer_norm
from diptych.nn.patches import PatchEmbed, from_patches
from diptych.nn.positions import timestep_features

_FEATURES = 256


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """`side`: of the latents it was trained with, in cells. Of `out_channels` the second half is
    the variance, where there are twice as many.

    `time_shift`: see `timestep_features`. The publisher trained with 0 and a norm of 1e-6 before
    the feed-forward layers; diffusers 0.42 runs the same weights with 1 and 1e-5.
    """

    in_channels: int = 4
    out_channels: int = 8
    patch_size: int = 2
    side: int = 32
    width: int = 1152
    depth: int = 28
    heads: int = 16
    classes: int = 1000
    time_shift: float = 0.0
    norm_epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"{self.width} channels do not part into heads and positions")

    @classmethod
    def tiny(cls, **changes: Any) -> DiTConfig:
        return replace(cls(side=8, width=32, depth=2, heads=4, classes=10), **changes)


DIT_XL_2 = DiTConfig()


class _Conditions(nn.Module):
    """Time and class, added."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.shift = config.time_shift
        self.timestep_embedder = TimeEmbedding(_FEATURES, config.width)
        self.class_embedder = _Classes(config)

    def forward(self, t: Tensor, labels: Tensor) -> Tensor:
        """t [B], labels [B] -> [B, D]"""
        embed = self.timestep_embedder
        features = timestep_features(t, _FEATURES, embed.linear_1.weight.dtype, self.shift)
        return embed(features) + self.class_embedder(labels)


class _Classes(nn.Module):
    def __init__(self, config: DiTConfig):
        super().__init__()
        # One more: no class at all, which guidance asks for.
        self.embedding_table = nn.Embedding(config.classes + 1, config.width)

    def forward(self, labels: Tensor) -> Tensor:
        """[B] -> [B, D]"""
        return self.embedding_table(labels)


class _Modulation(nn.Module):
    """What a block is told, [B, D] -> [B, 6, 1, D]: shift, gain, gate, for each half."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = RowLinear(width, 6 * width)

    def forward(self, c: Tensor) -> Tensor:
        return self.linear(c).unflatten(1, (6, 1, -1))


class DiTBlock(nn.Module):
    """Patches look at each other, then think."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.epsilon = config.norm_epsilon
        self.norm1 = _Modulation(config.width)
        self.attn1 = MultiHead(config.width, config.heads)
        self.ff = FeedForward(config.width)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """h [B, N, D], c [B, D] after its SiLU -> [B, N, D]"""
        shift, scale, gate, last_shift, last_scale, last_gate = self.norm1(c).unbind(1)
        h = h + gate * self.attn1(bare_layer_norm(h) * (1 + scale) + shift)
        normed = bare_layer_norm(h, self.epsilon)
        return h + last_gate * self.ff(normed * (1 + last_scale) + last_shift)


class DiT(nn.Module):
    """Noisy latent, time and class to a prediction and its variance."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config, width, p = config, config.width, config.patch_size
        self.pos_embed = PatchEmbed(config.in_channels, width, p, base=config.side // p)
        self.emb = _Conditions(config)
        self.transformer_blocks = nn.ModuleList(DiTBlock(config) for _ in range(config.depth))
        self.proj_out_1 = RowLinear(width, 2 * width)
        self.proj_out_2 = nn.Linear(width, p * p * config.out_channels)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """x [B, C, H, W], t [B] in 0..1000, labels [B] int64 (`classes`: none) -> [B, C', H, W]"""
        p = self.config.patch_size
        c = silu(self.emb(t, labels))
        h = self.pos_embed(x)
        for block in self.transformer_blocks:
            h = block(h, c)
        shift, scale = self.proj_out_1(c)[:, None].chunk(2, dim=-1)
        h = self.proj_out_2(bare_layer_norm(h) * (1 + scale) + shift)
        return from_patches(h, p, x.shape[2] // p, x.shape[3] // p)
