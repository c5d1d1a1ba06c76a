"""A linear bridge (MiniGPT-4, Zhu et al., 2023; four patches a row as in MiniGPT-v2, Chen et al.,
2023): one matrix between a frozen vision transformer and a frozen language model.

    rows = W [patch, right, below, right below] + b;  the caption goes on from them
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from diptych.models.captioners.captioner import Captioner
from diptych.models.captioners.word_decoder import WordDecoder, WordDecoderConfig

SHUFFLE = 2


@dataclass(frozen=True, kw_only=True)
class LinearBridgeConfig:
    """`patch_width`: of the vision transformer, whose patches form a square."""

    words: WordDecoderConfig = field(default_factory=WordDecoderConfig)
    patch_width: int = 128

    @classmethod
    def tiny(cls, **changes: Any) -> LinearBridgeConfig:
        return replace(cls(words=WordDecoderConfig.tiny(), patch_width=6), **changes)


class LinearBridge(Captioner):
    """sees patches [B, N, C]."""

    sees = ("patches",)

    def __init__(self, config: LinearBridgeConfig):
        super().__init__()
        self.config = config
        self.words = WordDecoder(config.words)
        self.bridge = nn.Linear(SHUFFLE**2 * config.patch_width, config.words.width)

    def look(self, patches: Tensor) -> Tensor:
        """patches [B, N, C] -> rows that stand for words [B, N / 4, D]"""
        side = round(patches.shape[1] ** 0.5) // SHUFFLE
        fours = patches.unflatten(1, (side, SHUFFLE, side, SHUFFLE)).permute(0, 1, 3, 2, 4, 5)
        return self.bridge(fours.flatten(3).flatten(1, 2))

    def say(self, memory: Tensor, tokens: Tensor) -> Tensor:
        """rows [B, P, D], tokens [B, L] -> logits of the next [B, L, V]"""
        return self.words.after(memory, tokens)
