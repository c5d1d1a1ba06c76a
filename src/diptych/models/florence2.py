"""Florence-2 (Xiao et al., 2024): a DaViT's features and a task's sentence in BART's encoder; the
decoder answers in words and places."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from diptych.models.classic_config import BART, ClassicConfig
from diptych.models.classic_decoder import ClassicDecoder, ClassicStack
from diptych.models.davit import DaViT, DaViTConfig


@dataclass(frozen=True, kw_only=True)
class Florence2Config:
    """`places`: learnt rows and columns; `moments`: of a video, of which a picture is the first."""

    vision: DaViTConfig = field(default_factory=DaViTConfig)
    reader: ClassicConfig = field(default_factory=lambda: replace(BART, vocabulary=0, memory=0))
    words: ClassicConfig = field(default_factory=lambda: BART)
    places: int = 50
    moments: int = 100

    @classmethod
    def tiny(cls, **changes: Any) -> Florence2Config:
        words = ClassicConfig.tiny(
            activation="gelu", post_norm=True, embed_norm=True, final_norm=False, offset=2,
            memory=24, head_bias=False, tied=True, positions=48,
        )  # fmt: skip
        reader = replace(words, vocabulary=0, memory=0)
        return replace(
            cls(vision=DaViTConfig.tiny(), reader=reader, words=words, places=10, moments=4),
            **changes,
        )

    def rows_at(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of a picture's features, their mean aside."""
        return self.vision.side_of(height), self.vision.side_of(width)


FLORENCE2_BASE = Florence2Config()


class Florence2(nn.Module):
    """A picture and a task, and words about it."""

    def __init__(self, config: Florence2Config):
        super().__init__()
        self.config = config
        self.vision = DaViT(config.vision)
        self.projector = _Projector(config)
        self.reader = ClassicStack(config.reader)
        self.language = ClassicDecoder(config.words)

    def opening(self, tiles: Tensor, question: Tensor | None = None) -> Tensor:
        """tiles [B, 3, H, W], normalized as ImageNet's, and a task's tokens [L] -> the states of
        both, [B, 1 + h * w + L, D]"""
        rows = self.projector(self.vision(tiles))
        if question is not None:
            words = self.language.embed(question).expand(len(rows), -1, -1)
            rows = torch.cat([rows, words], dim=1)
        return self.reader(rows)

    def forward(self, image: Tensor, tokens: Tensor, question: Tensor | None = None) -> Tensor:
        """image [B, 3, H, W], tokens [B, L] of an answer, a task's [M] -> logits of the next tokens
        [B, L, V]"""
        seen = self.opening(image, question)
        return self.language.logits(self.language(self.language.embed(tokens), memory=seen))


class _Projector(nn.Module):
    """Features with their places, and before them their mean, as rows of the language model."""

    def __init__(self, config: Florence2Config):
        super().__init__()
        width, across = config.vision.widths[-1], config.vision.widths[-1] // 2
        self.rows = nn.Embedding(config.places, across)
        self.columns = nn.Embedding(config.places, width - across)
        self.linear = nn.Linear(width, config.words.width, bias=False)
        self.norm = nn.LayerNorm(config.words.width)
        self.register_buffer("moments", _waves(config.moments, width))

    def forward(self, features: Tensor) -> Tensor:
        """[B, D, h, w] -> [B, 1 + h * w, E]"""
        height, width = features.shape[2:]
        across = self.columns.weight[None, :width].expand(height, -1, -1)
        down = self.rows.weight[:height, None].expand(-1, width, -1)
        h = features.permute(0, 2, 3, 1) + torch.cat([across, down], dim=-1)
        h = h.flatten(1, 2) + self.get_buffer("moments")[0].to(h.dtype)
        return self.norm(self.linear(torch.cat([h.mean(1, keepdim=True), h], dim=1)))


def _waves(count: int, width: int) -> Tensor:
    """Sines and cosines in turn (Vaswani et al., 2017), [count, width]."""
    rates = 10_000 ** (-torch.arange(width // 2) / (width // 2))
    angles = torch.arange(count)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
