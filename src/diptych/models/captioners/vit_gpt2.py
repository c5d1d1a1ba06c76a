"""ViT and GPT-2: a language model that looks at the patches of a vision transformer between its
blocks (the encoder-decoders of Rothe et al., 2020, with a picture as the source)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from diptych.models.captioners.captioner import Captioner
from diptych.models.captioners.word_decoder import CrossAttention, WordDecoder, WordDecoderConfig


@dataclass(frozen=True, kw_only=True)
class ViTGPT2Config:
    """`patch_width`: of the vision transformer."""

    words: WordDecoderConfig = field(default_factory=WordDecoderConfig)
    patch_width: int = 128

    @classmethod
    def tiny(cls, **changes: Any) -> ViTGPT2Config:
        return replace(cls(words=WordDecoderConfig.tiny(), patch_width=6), **changes)


class ViTGPT2(Captioner):
    """sees patches [B, N, C]. The language model knows how to speak; the cross-attention before
    each of its blocks is new."""

    sees = ("patches",)

    def __init__(self, config: ViTGPT2Config):
        super().__init__()
        self.config, words = config, config.words
        self.words = WordDecoder(words)
        self.crossing = nn.ModuleList(
            CrossAttention(words.width, config.patch_width, words.head_dim)
            for _ in range(words.depth)
        )

    def look(self, patches: Tensor) -> Tensor:
        """patches [B, N, C], as they are"""
        return patches

    def say(self, memory: Tensor, tokens: Tensor) -> Tensor:
        """patches [B, N, C], tokens [B, L] -> logits of the next [B, L, V]"""
        states = self.words.decode(
            self.words.token_embedding(tokens),
            lambda number, h: h + self.crossing[number](h, memory),
        )
        return self.words.logits(states)
