"""GIT (Wang et al., 2022): a picture's rows before a text's; pictures see themselves, words see the
picture and the words before them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from diptych.models.classic_config import ClassicConfig
from diptych.models.classic_decoder import ClassicDecoder
from diptych.models.clip import CLIP_TOWER
from diptych.models.vision_tower import VisionTower, VisionTowerConfig

GIT_TOWER = replace(CLIP_TOWER, pooling="none")
GIT_WORDS = ClassicConfig(
    vocabulary=30_522, depth=6, activation="gelu", positions=1024, post_norm=True,
    embed_norm=True, final_norm=False, norm_epsilon=1e-12, tied=False, head_bias=True,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GitConfig:
    """A vision tower, and BERT's layers without cross-attention."""

    vision: VisionTowerConfig = field(default_factory=lambda: GIT_TOWER)
    words: ClassicConfig = field(default_factory=lambda: GIT_WORDS)

    @classmethod
    def tiny(cls, **changes: Any) -> GitConfig:
        vision = replace(
            GIT_TOWER, image_size=16, patch_size=4, width=20, depth=2, heads=4, hidden=40
        )
        words = ClassicConfig.tiny(
            activation="gelu", post_norm=True, embed_norm=True, final_norm=False, memory=0
        )
        return replace(cls(vision=vision, words=words), **changes)

    @property
    def rows(self) -> tuple[int, int]:
        """Of a picture, the class token aside: rows and columns."""
        side = self.vision.image_size // self.vision.patch_size
        return side, side


GIT_BASE = GitConfig(vision=replace(GIT_TOWER, patch_size=16))


class Git(nn.Module):
    """A picture, and words about it."""

    def __init__(self, config: GitConfig):
        super().__init__()
        self.config, width = config, config.words.width
        self.vision = VisionTower(config.vision)
        self.linear = nn.Linear(config.vision.width, width)
        self.norm = nn.LayerNorm(width, eps=config.vision.norm_epsilon)
        self.language = ClassicDecoder(config.words)

    def opening(self, tiles: Tensor, question: Tensor | None = None) -> Tensor:
        """tiles [B, 3, S, S], normalized as CLIP's -> states [B, N, D], which have no place"""
        last = self.vision(tiles).last
        assert last is not None
        return self.norm(self.linear(last))

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        """image [B, 3, S, S], tokens [B, L] -> logits of the next tokens [B, L, V]"""
        seen = self.opening(image)
        rows = torch.cat([seen, self.language.embed(tokens)], dim=1)
        before, count = seen.shape[1], rows.shape[1]
        number = torch.arange(count, device=rows.device)
        # What stands behind the picture is seen by what stands there too.
        mask = (number <= number[:, None]) | (number < before)
        places = (number - before).clamp(min=-1)[None]
        states = self.language(rows, places=places, mask=mask[None, None])
        return self.language.logits(states[:, before:])
