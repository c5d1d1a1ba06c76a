"""Qwen2-VL (Wang et al., 2024) and Qwen2.5-VL (Bai et al., 2025): pictures at their own size, and
places in three axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from diptych.imaging.pixels import merged_patches
from diptych.imaging.plan import TokenPlan
from diptych.models.decoder import Decoder
from diptych.models.decoder_config import DecoderConfig
from diptych.models.qwen_vl.inputs import merged_grid, positions
from diptych.models.qwen_vl.tower import QwenTower, QwenTowerConfig
from diptych.nn.rope import RotaryConfig


@dataclass(frozen=True, kw_only=True)
class QwenVLConfig:
    """`picture_token`: the word that stands for a picture's rows in a prompt."""

    vision: QwenTowerConfig = field(default_factory=QwenTowerConfig)
    language: DecoderConfig = field(default_factory=DecoderConfig)
    picture_token: int = 151_655
    sees_all: bool = False

    @classmethod
    def tiny(cls, **changes: Any) -> QwenVLConfig:
        language = DecoderConfig.tiny(bias=True, rotary=RotaryConfig(sections=(1, 1, 2)))
        small = cls(vision=QwenTowerConfig.tiny(), language=language, picture_token=39)
        return replace(small, **changes)


_QWEN2 = DecoderConfig(
    vocabulary=151_936, width=1536, depth=28, heads=12, groups=2, head_dim=128, hidden=8960,
    norm_epsilon=1e-6, rotary=RotaryConfig(base=1e6, sections=(16, 24, 24)), tied=True, bias=True,
)  # fmt: skip
QWEN2_VL_2B = QwenVLConfig(language=_QWEN2)
QWEN25_VL_3B = QwenVLConfig(
    vision=QwenTowerConfig(hidden=3420, rows=2048, gated=True, full=(7, 15, 23, 31)),
    language=replace(_QWEN2, width=2048, depth=36, heads=16, hidden=11_008),
)


class QwenVL(nn.Module):
    """Patches of pictures to rows, and rows among words to words."""

    def __init__(self, config: QwenVLConfig):
        super().__init__()
        self.config = config
        self.vision = QwenTower(config.vision)
        self.language = Decoder(config.language)

    def look(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        """patches [N, values] of one picture of `rows` x `columns` tokens -> rows [M, D]"""
        return self.vision(patches, rows, columns)

    def see(self, tiles: Tensor, plan: TokenPlan) -> Tensor:
        """tiles [1, 3, H, W] float32 of a picture -> its rows [plan.count(), D]"""
        spec, weight = self.config.vision.spec, self.language.embed_tokens.weight
        pixels = tiles[0].float().cpu().numpy()
        patches = torch.as_tensor(merged_patches(pixels, spec.patch, spec.merge, spec.copies))
        return self.look(patches.to(weight.device, weight.dtype), *merged_grid(plan))

    def places(self, tokens: Sequence[int], plans: Sequence[TokenPlan]) -> tuple[Tensor, int]:
        """Of a prompt's rows, [N, 3], and that of the next token."""
        found, more = positions(tokens, plans, self.config.picture_token)
        return found.T, len(tokens) + more

    def forward(self, patches: Tensor, tokens: Tensor, places: Tensor) -> Tensor:
        """patches [B, N, values] of square pictures, one a text, tokens [B, L] with a picture token
        for each of its rows, places [B, L, 3] -> logits of the next tokens [B, L, V]"""
        language, merge = self.language, self.config.vision.merge
        side = round((patches.shape[1] / merge**2) ** 0.5)
        rows = torch.cat([self.look(one, side, side) for one in patches])
        seen = (tokens == self.config.picture_token)[..., None]
        words = language.embed(tokens)
        words = words.masked_scatter(seen, rows.to(words.dtype))
        return language.logits(language(words, places))
