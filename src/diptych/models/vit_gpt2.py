"""A vision transformer whose states GPT-2 looks at: the pair that was trained most (Kumar, 2022,
`vit-gpt2-image-captioning`, with the cross-attention of Vaswani et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from diptych.models.classic_config import GPT2, ClassicConfig
from diptych.models.classic_decoder import ClassicDecoder
from diptych.models.vision_tower import VIT_B, VisionTower, VisionTowerConfig


@dataclass(frozen=True, kw_only=True)
class VitGpt2Config:
    """The tower pools, as it was stored, and nothing reads that. Where the widths are not alike, a
    map stands between."""

    vision: VisionTowerConfig = field(default_factory=lambda: VIT_B)
    words: ClassicConfig = field(default_factory=lambda: replace(GPT2, memory=768))

    @classmethod
    def tiny(cls, **changes: Any) -> VitGpt2Config:
        vision = replace(
            VIT_B, image_size=16, patch_size=4, width=20, depth=2, heads=4, hidden=40,
            pooling="none",
        )  # fmt: skip
        words = ClassicConfig.tiny(memory=24, head_bias=False)
        return replace(cls(vision=vision, words=words), **changes)

    @property
    def rows(self) -> tuple[int, int]:
        """Patches of a picture: rows and columns."""
        side = self.vision.image_size // self.vision.patch_size
        return side, side


class VitGpt2(nn.Module):
    """A picture, and words about it."""

    def __init__(self, config: VitGpt2Config):
        super().__init__()
        self.config, seen, width = config, config.vision.width, config.words.width
        self.vision = VisionTower(config.vision)
        self.linear = nn.Linear(seen, width) if seen != width else None
        self.language = ClassicDecoder(config.words)

    def opening(self, tiles: Tensor, question: Tensor | None = None) -> Tensor:
        """tiles [B, 3, S, S] in -1..1 -> what words look at [B, N, D]"""
        last = self.vision(tiles).last
        assert last is not None
        return last if self.linear is None else self.linear(last)

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        """image [B, 3, S, S], tokens [B, L] -> logits of the next tokens [B, L, V]"""
        rows = self.language.embed(tokens)
        return self.language.logits(self.language(rows, memory=self.opening(image)))
