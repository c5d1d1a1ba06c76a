"""A picture and a question to an answer: convolutional stem and ViT, pixel shuffle, two-layer MLP
connector, causal decoder (the layout of LLaVA and InternVL, Liu et al., 2023, Chen et al., 2024,
with the early convolutions of Xiao et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad, pixel_unshuffle

from diptych.decoding.slots import KVShape, KVView
from diptych.nn.attention import attend, join_heads
from diptych.nn.blocks import Block
from diptych.nn.conv import ResidualBlock
from diptych.nn.norms import RMSNorm
from diptych.nn.positions import grid, rotary, sine_features


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """A patch is 8 x 8 pixels; `shuffle` x `shuffle` patches become one row of the decoder.

    `convolutions`: residual blocks at 1/2, 1/4 and 1/8 of the picture's width; drawings of many
    styles want them, clean shapes do not.
    """

    image_size: int = 64
    stem: tuple[int, int] = (32, 64)
    convolutions: tuple[int, int, int] = (0, 0, 0)
    width: int = 128
    depth: int = 3
    head_dim: int = 32
    shuffle: int = 2


@dataclass(frozen=True, kw_only=True)
class VisionLanguageConfig:
    vision: VisionConfig = field(default_factory=VisionConfig)
    vocabulary: int = 128
    length: int = 160
    width: int = 128
    depth: int = 3
    head_dim: int = 32

    @classmethod
    def tiny(cls, **changes: int) -> VisionLanguageConfig:
        vision = VisionConfig(image_size=32, stem=(8, 8), width=32, depth=1, head_dim=16)
        small = cls(vision=vision, vocabulary=20, length=24, width=32, depth=1, head_dim=16)
        return replace(small, **changes)


class VisionTransformer(nn.Module):
    """A picture to one vector a patch."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.config, (first, second) = config, config.stem
        self.stem1 = nn.Conv2d(12, first, 3, padding=1)
        self.stem2 = nn.Conv2d(4 * first, second, 3, padding=1)
        self.patch_in = nn.Linear(4 * second, config.width)
        self.refine1, self.refine2, self.refine3 = (
            nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))
            for channels, count in zip(
                (first, second, config.width), config.convolutions, strict=True
            )
        )
        self.position_in = nn.Linear(64, config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, config.head_dim, 4 * config.width) for _ in range(config.depth)
        )
        self.norm = RMSNorm(config.width)

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] in -1..1 -> [B, H/8 * W/8, D]"""
        h = self.refine1(gelu(self.stem1(pixel_unshuffle(image, 2))))
        h = self.refine2(gelu(self.stem2(pixel_unshuffle(h, 2))))
        h = self.patch_in(pixel_unshuffle(h, 2).movedim(1, -1)).movedim(-1, 1)
        place, h = grid(*h.shape[2:]).to(h.device), self.refine3(h)
        fixed = torch.cat(
            [sine_features(axis, 32, period=64, octaves=5) for axis in place.unbind(-1)], dim=-1
        )
        h = h.flatten(2).mT + self.position_in(fixed.to(self.patch_in.weight.dtype))
        angles = rotary(place, self.config.head_dim, base=100.0)
        for block in self.blocks:
            h = block(h, angles)
        return self.norm(h)


class VisionLanguage(nn.Module):
    """One decoder for captions, questions and reading. Output weights are the embedding's."""

    def __init__(self, config: VisionLanguageConfig):
        super().__init__()
        self.config, vision = config, config.vision
        self.vision = VisionTransformer(vision)
        merged = vision.width * vision.shuffle**2
        self.connector = nn.Sequential(
            nn.Linear(merged, config.width), nn.GELU(), nn.Linear(config.width, config.width)
        )
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        # Tied to the output: at a standard deviation of 1 the first logits would be wild.
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.blocks = nn.ModuleList(
            Block(config.width, config.head_dim, 4 * config.width) for _ in range(config.depth)
        )
        self.norm = RMSNorm(config.width)

    @property
    def prefix_length(self) -> int:
        """Rows of the decoder that a picture takes."""
        vision = self.config.vision
        return (vision.image_size // 8 // vision.shuffle) ** 2

    def look(self, image: Tensor) -> Tensor:
        """image [B, 3, H, W] in -1..1 -> decoder rows [B, P, D]"""
        h, shuffle = self.vision(image), self.config.vision.shuffle
        side = image.shape[2] // 8
        h = h.unflatten(1, (side // shuffle, shuffle, side // shuffle, shuffle))
        return self.connector(h.permute(0, 1, 3, 2, 4, 5).flatten(3).flatten(1, 2))

    @property
    def kv(self) -> KVShape:
        """What the decoder keeps of a place."""
        config = self.config
        heads = config.width // config.head_dim
        return KVShape(depth=config.depth, groups=heads, head_dim=config.head_dim)

    def decode(
        self,
        rows: Tensor,
        positions: Tensor,
        mask: Tensor | None = None,
        view: KVView | None = None,
    ) -> Tensor:
        """rows [B, N, D] at positions [B or 1, N] -> states [B, N, D], normed.

        mask [B or 1, 1, N, N] (True: may look). With `view`, rows come behind what is kept, are
        kept themselves, and look as it says.
        """
        angles = rotary(positions[..., None], self.config.head_dim)[:, :, None]
        seen = mask if view is None else view.seen()
        h = rows
        for number, layer in enumerate(self.blocks):
            block = cast(Block, layer)
            q, k, v = block.attention.heads(block.attention_norm(h), angles)
            if view is not None:
                k, v = view.write(number, k.transpose(1, 2), v.transpose(1, 2))
            h = _finished(block, h, attend(q, k, v, seen))
        return self.norm(h)

    def step(self, rows: Tensor, positions: Tensor, view: KVView, calls: int = 0) -> Tensor:
        """One row of each text, [B, D] at positions [B] -> states [B, D]. With `calls`, weights
        meet that many rows and a text looks by itself, so that its bits do not depend on its
        neighbours: states [calls, D], the first B real."""
        if not calls:
            return self.decode(rows[:, None], positions[:, None], view=view)[:, 0]
        texts, more = len(rows), calls - len(rows)
        h = pad(rows, (0, 0, 0, more))[:, None]
        angles = rotary(pad(positions, (0, more))[:, None, None], self.config.head_dim)[:, :, None]
        for number, layer in enumerate(self.blocks):
            block = cast(Block, layer)
            q, k, v = block.attention.heads(block.attention_norm(h), angles)
            keys, values = view.write(number, k[:texts].transpose(1, 2), v[:texts].transpose(1, 2))
            looked = torch.zeros_like(q)
            for i, start in enumerate(view.starts):
                own = slice(i, i + 1), slice(None), slice(0, start + 1)
                looked[i] = attend(q[i : i + 1], keys[own], values[own])[0]
            h = _finished(block, h, looked)
        return self.norm(h)[:, 0]

    def logits(self, states: Tensor) -> Tensor:
        """states [..., D] -> logits of the next token [..., V]"""
        return states @ self.token_embedding.weight.T.to(states.dtype)

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        """image [B, 3, H, W] in -1..1, tokens [B, L] -> logits of the next tokens [B, L, V]"""
        return self.answer(self.look(image), tokens)

    def answer(self, prefix: Tensor, tokens: Tensor, segments: Tensor | None = None) -> Tensor:
        """prefix [B, P, D] of `look`, tokens [B, L] -> logits of the next tokens [B, L, V].

        `segments` [B, L] numbers the texts where several about one picture stand in a row; a
        text sees the picture and itself, as if it stood alone.
        """
        if segments is None:
            segments = torch.zeros_like(tokens)
        rows = torch.cat([prefix, self.token_embedding(tokens).to(prefix.dtype)], dim=1)
        positions, mask = _packed(segments, prefix.shape[1])
        return self.logits(self.decode(rows, positions, mask)[:, prefix.shape[1] :])


def _finished(block: Block, h: Tensor, looked: Tensor) -> Tensor:
    """What attention saw [B, H, N, head_dim], and the MLP, onto h [B, N, D]."""
    h = h + block.attention.out(join_heads(looked))
    return h + block.mlp(block.mlp_norm(h))


def _packed(segments: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
    """Positions [B, P + L] and mask [B, 1, P + L, P + L] of texts behind a picture's rows."""
    batch, length = segments.shape
    index = torch.arange(length, device=segments.device)
    starts = torch.cat([segments.new_ones(batch, 1), segments.diff(dim=1)], dim=1) != 0
    first = torch.where(starts, index, 0).cummax(dim=1).values
    seen = index.new_tensor(range(prefix)).expand(batch, -1)
    positions = torch.cat([seen, prefix + index - first], dim=1)
    mask = torch.zeros(
        batch, prefix + length, prefix + length, dtype=torch.bool, device=index.device
    )
    mask[:, :, :prefix] = True
    same = segments[:, :, None] == segments[:, None, :]
    mask[:, prefix:, prefix:] = same & (index[:, None] >= index[None])
    return positions, mask[:, None]
