"""A bidirectional transformer over words: the context that pictures are made from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from diptych.nn.blocks import Block
from diptych.nn.norms import RMSNorm
from diptych.nn.positions import rotary


@dataclass(frozen=True, kw_only=True)
class TextEncoderConfig:
    vocabulary: int = 128
    length: int = 40
    width: int = 128
    depth: int = 2
    head_dim: int = 32

    @classmethod
    def tiny(cls, **changes: int) -> TextEncoderConfig:
        return replace(cls(vocabulary=20, length=8, width=32, depth=1, head_dim=16), **changes)


class TextEncoder(nn.Module):
    """Tokens to one vector each and one for the whole sentence."""

    def __init__(self, config: TextEncoderConfig):
        super().__init__()
        self.config, width = config, config.width
        self.token_embedding = nn.Embedding(config.vocabulary, width)
        nn.init.normal_(self.token_embedding.weight, std=0.5)
        self.blocks = nn.ModuleList(
            Block(width, config.head_dim, 4 * width) for _ in range(config.depth)
        )
        self.norm = RMSNorm(width)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """tokens [B, L] int64, mask [B, L] (True: a token) -> context [B, L, D], pooled [B, D]"""
        positions = torch.arange(tokens.shape[1], device=tokens.device)[:, None]
        angles = rotary(positions, self.config.head_dim)
        h = self.token_embedding(tokens)
        for block in self.blocks:
            h = block(h, angles, mask[:, None, None])
        context = self.norm(h) * mask[..., None]
        return context, context.sum(1) / mask.sum(1, keepdim=True)
