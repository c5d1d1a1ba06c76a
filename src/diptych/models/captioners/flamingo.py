"""Flamingo (Alayrac et al., 2022): a frozen language model learns to see through gates that are
closed at first, and reads pictures and texts in turns.

    x = resampler(media):  latents look at [media; latents], layer by layer  (section 3.1)
    y = y + tanh(a) attention(y, x);  y = y + tanh(b) FFW(y);  a = b = 0     (figure 4)

A text sees the last picture before it, and no other (section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from diptych.models.captioners.captioner import Captioner
from diptych.models.captioners.word_decoder import CrossAttention, WordDecoder, WordDecoderConfig
from diptych.nn.blocks import MLP
from diptych.nn.norms import RMSNorm


@dataclass(frozen=True, kw_only=True)
class FlamingoConfig:
    """`latents`: rows that a picture becomes, 64 in the paper; `bos`: a picture stands before each
    mark of begin."""

    words: WordDecoderConfig = field(default_factory=WordDecoderConfig)
    patch_width: int = 128
    latents: int = 16
    resampler_depth: int = 2
    bos: int = 1

    @classmethod
    def tiny(cls, **changes: Any) -> FlamingoConfig:
        return replace(
            cls(words=WordDecoderConfig.tiny(), patch_width=32, latents=3, resampler_depth=1),
            **changes,
        )


class Resampler(nn.Module):
    """Any number of patches to a few rows."""

    def __init__(self, config: FlamingoConfig):
        super().__init__()
        width, head_dim = config.patch_width, config.words.head_dim
        self.tokens = nn.Parameter(torch.randn(config.latents, width) * 0.5)
        self.media_norm = RMSNorm(width)
        self.attentions = nn.ModuleList(
            CrossAttention(width, width, head_dim) for _ in range(config.resampler_depth)
        )
        self.norms = nn.ModuleList(RMSNorm(width) for _ in range(config.resampler_depth))
        self.mlps = nn.ModuleList(MLP(width, 2 * width) for _ in range(config.resampler_depth))

    def forward(self, media: Tensor) -> Tensor:
        """[M, N, C] -> [M, latents, C]"""
        media = self.media_norm(media)
        h = self.tokens.expand(len(media), -1, -1)
        for attention, norm, mlp in zip(self.attentions, self.norms, self.mlps, strict=True):
            h = h + attention(h, torch.cat([media, h], dim=1))
            h = h + mlp(norm(h))
        return h


class GatedLayer(nn.Module):
    """What is put before a block of the language model."""

    def __init__(self, width: int, seen_width: int, head_dim: int):
        super().__init__()
        self.attention = CrossAttention(width, seen_width, head_dim)
        self.norm, self.mlp = RMSNorm(width), MLP(width, 4 * width)
        self.attention_gate = nn.Parameter(torch.zeros(1))
        self.mlp_gate = nn.Parameter(torch.zeros(1))

    def forward(self, y: Tensor, seen: Tensor, mask: Tensor) -> Tensor:
        """y [B, N, D], seen [B, M, C], mask [B, 1, N, M] -> [B, N, D]"""
        y = y + self.attention_gate.tanh() * self.attention(y, seen, mask)
        return y + self.mlp_gate.tanh() * self.mlp(self.norm(y))


class Flamingo(Captioner):
    """sees patches [B, N, C] of one picture, or [B, S, N, C] of several in turns with texts."""

    sees = ("patches",)

    def __init__(self, config: FlamingoConfig):
        super().__init__()
        self.config, words = config, config.words
        self.words = WordDecoder(words)
        self.resampler = Resampler(config)
        self.gated = nn.ModuleList(
            GatedLayer(words.width, config.patch_width, words.head_dim) for _ in range(words.depth)
        )

    def look(self, patches: Tensor) -> Tensor:
        """patches [B, N, C] or [B, S, N, C] -> rows of each picture [B, S, latents, C]"""
        media = patches[:, None] if patches.ndim == 3 else patches
        return self.resampler(media.flatten(0, 1)).unflatten(0, media.shape[:2])

    def say(self, memory: Tensor, tokens: Tensor) -> Tensor:
        """rows [B, S, latents, C], tokens [B, L], the n-th mark of begin behind picture n -> logits
        of the next [B, L, V]"""
        count, latents = memory.shape[1:3]
        last = (tokens == self.config.bos).cumsum(dim=1) - 1
        own = last[:, :, None] == torch.arange(count, device=tokens.device)
        mask = own.repeat_interleave(latents, dim=-1)[:, None]
        # Before the first mark there is no picture, and a row that sees nothing has no mean.
        mask = mask | ~mask.any(-1, keepdim=True)
        seen = memory.flatten(1, 2)
        states = self.words.decode(
            self.words.token_embedding(tokens),
            lambda number, h: self.gated[number](h, seen, mask),
        )
        return self.words.logits(states)

    @property
    def gates(self) -> list[float]:
        """How far each is open, |tanh|, 0..1: attention and MLP of each layer."""
        layers = [cast(GatedLayer, layer) for layer in self.gated]
        pairs = [(layer.attention_gate, layer.mlp_gate) for layer in layers]
        return [float(gate.detach().tanh().abs()) for pair in pairs for gate in pair]
