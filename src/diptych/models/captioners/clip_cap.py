"""ClipCap (Mokady et al., 2021): the one vector that CLIP has of a picture becomes ten words that
were never spoken, and a language model goes on from them.

    p(1..k) = F(CLIP(I));  p(c(j) | p(1..k), c(1..j-1)) by the language model  (equations 2, 3)

F is an MLP when the language model learns along, a transformer when it is frozen (section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from diptych.models.captioners.captioner import Captioner
from diptych.models.captioners.word_decoder import WordDecoder, WordDecoderConfig
from diptych.nn.blocks import Block


@dataclass(frozen=True, kw_only=True)
class ClipCapConfig:
    """`prefix` words are made of a vector of `clip_width`."""

    words: WordDecoderConfig = field(default_factory=WordDecoderConfig)
    clip_width: int = 128
    prefix: int = 10
    mapper: Literal["mlp", "transformer"] = "mlp"
    mapper_depth: int = 2

    @classmethod
    def tiny(cls, **changes: Any) -> ClipCapConfig:
        return replace(cls(words=WordDecoderConfig.tiny(), clip_width=6, prefix=3), **changes)


class MLPMapper(nn.Module):
    """Two layers, half as wide between as the prefix is long."""

    def __init__(self, config: ClipCapConfig):
        super().__init__()
        width = config.prefix * config.words.width
        self.up, self.down = nn.Linear(config.clip_width, width // 2), nn.Linear(width // 2, width)
        self.prefix = config.prefix

    def forward(self, clip: Tensor) -> Tensor:
        """[B, C] -> [B, P, D]"""
        return self.down(self.up(clip).tanh()).unflatten(-1, (self.prefix, -1))


class TransformerMapper(nn.Module):
    """As many words of the picture and learned words beside each other; the latter are kept."""

    def __init__(self, config: ClipCapConfig):
        super().__init__()
        width = config.words.width
        self.picture_in = nn.Linear(config.clip_width, config.prefix * width)
        self.tokens = nn.Parameter(torch.randn(config.prefix, width) * 0.02)
        self.blocks = nn.ModuleList(
            Block(width, config.words.head_dim, 2 * width) for _ in range(config.mapper_depth)
        )

    def forward(self, clip: Tensor) -> Tensor:
        """[B, C] -> [B, P, D]"""
        picture = self.picture_in(clip).unflatten(-1, self.tokens.shape)
        h = torch.cat([picture, self.tokens.expand(len(clip), -1, -1)], dim=1)
        for block in self.blocks:
            h = block(h)
        return h[:, len(self.tokens) :]


MAPPERS = {"mlp": MLPMapper, "transformer": TransformerMapper}


class ClipCap(Captioner):
    """sees clip [B, C], a vector of unit length."""

    sees = ("clip",)

    def __init__(self, config: ClipCapConfig):
        super().__init__()
        self.config = config
        self.words = WordDecoder(config.words)
        self.mapper = MAPPERS[config.mapper](config)

    def look(self, clip: Tensor) -> Tensor:
        """clip [B, C] -> prefix [B, P, D]"""
        return self.mapper(clip)

    def say(self, memory: Tensor, tokens: Tensor) -> Tensor:
        """prefix [B, P, D], tokens [B, L] -> logits of the next [B, L, V]"""
        return self.words.after(memory, tokens)
