"""SimVLM (Wang et al., 2022): one loss, that of a language model whose prefix may be a picture.

An encoder reads the picture's rows, from the first stages of a ResNet, and a beginning of the text,
all seeing all; a decoder goes on, each word seeing those before and all that was encoded:

    L = -E log p(x[T:] | picture, x[:T]),  T drawn anew for each batch   (equation 3)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from diptych.models.captioners.captioner import Captioner
from diptych.models.captioners.word_decoder import CrossAttention
from diptych.nn.blocks import Block
from diptych.nn.norms import RMSNorm


@dataclass(frozen=True, kw_only=True)
class SimVLMConfig:
    """`places`: rows of a picture; `length`: the most words."""

    vocabulary: int = 128
    grid_width: int = 96
    places: int = 64
    length: int = 32
    width: int = 96
    head_dim: int = 32
    encoder_depth: int = 2
    decoder_depth: int = 2

    @classmethod
    def tiny(cls, **changes: Any) -> SimVLMConfig:
        small = cls(
            vocabulary=20, grid_width=6, places=9, length=16, width=16, head_dim=8,
            encoder_depth=1, decoder_depth=1,
        )  # fmt: skip
        return replace(small, **changes)


class DecoderBlock(nn.Module):
    """Causal attention and MLP, and a look at the encoder's rows before them."""

    def __init__(self, width: int, head_dim: int):
        super().__init__()
        self.crossing = CrossAttention(width, width, head_dim)
        self.block = Block(width, head_dim, 4 * width)

    def forward(self, h: Tensor, seen: Tensor, mask: Tensor) -> Tensor:
        """h [B, L, D], seen [B, M, D], mask [L, L] -> [B, L, D]"""
        return self.block(h + self.crossing(h, seen), None, mask)


class EncoderDecoder(nn.Module):
    """Rows that all see each other, and words that see them and those before."""

    def __init__(self, width: int, head_dim: int, encoder_depth: int, decoder_depth: int):
        super().__init__()
        self.encoder = nn.ModuleList(
            Block(width, head_dim, 4 * width) for _ in range(encoder_depth)
        )
        self.decoder = nn.ModuleList(DecoderBlock(width, head_dim) for _ in range(decoder_depth))
        self.encoder_norm, self.norm = RMSNorm(width), RMSNorm(width)

    def encode(self, rows: Tensor) -> Tensor:
        """[B, M, D] -> [B, M, D]"""
        for block in self.encoder:
            rows = block(rows)
        return self.encoder_norm(rows)

    def decode(self, rows: Tensor, seen: Tensor) -> Tensor:
        """rows [B, L, D], seen [B, M, D] -> states [B, L, D]"""
        count = rows.shape[1]
        mask = torch.ones(count, count, dtype=torch.bool, device=rows.device).tril()
        for block in self.decoder:
            rows = cast(DecoderBlock, block)(rows, seen, mask)
        return self.norm(rows)


class SimVLM(Captioner):
    """sees grid [B, N, C]."""

    def __init__(self, config: SimVLMConfig):
        super().__init__()
        self.config, width = config, config.width
        self.picture_in = nn.Linear(config.grid_width, width)
        self.place_position = nn.Parameter(torch.randn(config.places, width) * 0.02)
        self.token_embedding = nn.Embedding(config.vocabulary, width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.position = nn.Parameter(torch.randn(config.length, width) * 0.02)
        depths = config.encoder_depth, config.decoder_depth
        self.body = EncoderDecoder(width, config.head_dim, *depths)

    def look(self, grid: Tensor) -> Tensor:
        """grid [B, N, C] -> rows of the picture before the encoder [B, N, D]"""
        return self.picture_in(grid) + self.place_position

    def embedded(self, tokens: Tensor, start: int = 0) -> Tensor:
        """tokens [B, L], the first the `start`-th of its text -> [B, L, D]"""
        places = self.position[start : start + tokens.shape[1]]
        return self.token_embedding(tokens) + places

    def after(self, memory: Tensor, tokens: Tensor, prefix: int) -> Tensor:
        """rows [B, N, D], tokens [B, L], of which the first `prefix` are encoded with the picture
        -> logits of the next of the others [B, L - prefix, V]"""
        rows = torch.cat([memory, self.embedded(tokens[:, :prefix]).to(memory.dtype)], dim=1)
        seen = self.body.encode(rows)
        states = self.body.decode(self.embedded(tokens[:, prefix:], prefix), seen)
        return states @ self.token_embedding.weight.T.to(states.dtype)

    def say(self, memory: Tensor, tokens: Tensor) -> Tensor:
        """rows [B, N, D], tokens [B, L] -> logits of the next [B, L, V]; only the picture is
        encoded"""
        return self.after(memory, tokens, 0)
