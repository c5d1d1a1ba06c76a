"""IP-Adapter (Ye et al., 2023): pictures are read like words, by keys and values of their own in
every attention of a U-Net that looks at words. Names of parameters are those of the published
files, `image_proj.*` and `ip_adapter.*`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from diptych.nn.attention import attend, join_heads, split_heads
from diptych.nn.blocks import RowLinear

_SD1_WIDTHS = (*(320, 320, 640, 640), *[1280] * 5, *(640, 640, 640, 320, 320, 320, 1280))


@dataclass(frozen=True, kw_only=True)
class IPAdapterConfig:
    """`kind` is how a picture becomes tokens: `plain` from its one vector, `full` from all states
    of its encoder, `plus` from them through a resampler, `face` from the vector of a face.

    `input_width`: of what the encoder gives; `context_width`: of a token; `tokens`: how many a
    picture becomes (`full` has as many as the encoder); `widths`: of the attentions that look at
    them, in the order down, up, middle. `hidden`, `depth`, `heads`: of the resampler, whose heads
    have 64 channels; `hidden` also of what a face passes.
    """

    kind: Literal["plain", "full", "plus", "face"] = "plain"
    input_width: int = 1024
    context_width: int = 768
    tokens: int = 4
    widths: tuple[int, ...] = (
        (320,) * 2 + (640,) * 2 + (1280,) * 5 + (640,) * 3 + (320,) * 3 + (1280,)
    )
    hidden: int = 768
    depth: int = 4
    heads: int = 12

    @classmethod
    def tiny(cls, **changes: Any) -> IPAdapterConfig:
        small = cls(
            input_width=20, context_width=32, tokens=3, widths=(32, 32, 32, 64), hidden=48,
            depth=2, heads=2,
        )  # fmt: skip
        return replace(small, **changes)


IP_ADAPTER_SD1 = IPAdapterConfig()
IP_ADAPTER_PLUS_SD1 = IPAdapterConfig(kind="plus", input_width=1280, tokens=16)


class IPAdapter(nn.Module):
    """What an encoder gives of a picture to what each attention sees of it."""

    def __init__(self, config: IPAdapterConfig):
        super().__init__()
        self.config = config
        self.image_proj = _PROJECTIONS[config.kind](config)
        # Numbered by all attentions, of which every other looks at words.
        self.ip_adapter = nn.ModuleDict(
            {
                str(2 * i + 1): _KeysAndValues(config.context_width, width)
                for i, width in enumerate(config.widths)
            }
        )

    def forward(self, encoded: Tensor) -> list[tuple[Tensor, Tensor]]:
        """encoded [B, W], or [B, N, W] for `full` and `plus` -> keys and values [B, T, C] for each
        attention, in the order of `widths`"""
        tokens = self.image_proj(encoded)
        return [layer(tokens) for layer in self.ip_adapter.values()]


class _KeysAndValues(nn.Module):
    def __init__(self, before: int, after: int):
        super().__init__()
        self.to_k_ip = nn.Linear(before, after, bias=False)
        self.to_v_ip = nn.Linear(before, after, bias=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, D] -> two of [B, T, C]"""
        return self.to_k_ip(tokens), self.to_v_ip(tokens)


class _Plain(nn.Module):
    """One vector to some tokens."""

    def __init__(self, config: IPAdapterConfig):
        super().__init__()
        self.tokens = config.tokens
        self.proj = RowLinear(config.input_width, config.tokens * config.context_width)
        self.norm = nn.LayerNorm(config.context_width)

    def forward(self, encoded: Tensor) -> Tensor:
        """[B, W] -> [B, T, D]"""
        return self.norm(self.proj(encoded).unflatten(1, (self.tokens, -1)))


class _Full(nn.Module):
    """Every state of the encoder to a token."""

    def __init__(self, config: IPAdapterConfig):
        super().__init__()
        width, context = config.input_width, config.context_width
        self.proj = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, context), nn.LayerNorm(context)
        )

    def forward(self, encoded: Tensor) -> Tensor:
        """[B, N, W] -> [B, N, D]"""
        return self.proj(encoded)


class _Face(nn.Module):
    """The vector of a face to some tokens."""

    def __init__(self, config: IPAdapterConfig):
        super().__init__()
        self.tokens = config.tokens
        self.proj = nn.Sequential(
            RowLinear(config.input_width, config.hidden),
            nn.GELU(),
            RowLinear(config.hidden, config.tokens * config.context_width),
        )
        self.norm = nn.LayerNorm(config.context_width)

    def forward(self, encoded: Tensor) -> Tensor:
        """[B, W] -> [B, T, D]"""
        return self.norm(self.proj(encoded).unflatten(1, (self.tokens, -1)))


class _Plus(nn.Module):
    """Learned queries that look at the encoder's states and at each other (Alayrac et al., 2022,
    the perceiver of Flamingo)."""

    def __init__(self, config: IPAdapterConfig):
        super().__init__()
        hidden = config.hidden
        self.latents = nn.Parameter(torch.randn(1, config.tokens, hidden) * hidden**-0.5)
        self.proj_in = nn.Linear(config.input_width, hidden)
        self.proj_out = nn.Linear(hidden, config.context_width)
        self.norm_out = nn.LayerNorm(config.context_width)
        self.layers = nn.ModuleList(
            _LooksAndThinks([_Looks(hidden, config.heads), _feed_forward(hidden)])
            for _ in range(config.depth)
        )

    def forward(self, encoded: Tensor) -> Tensor:
        """[B, N, W] -> [B, T, D]"""
        h, seen = self.latents.expand(len(encoded), -1, -1), self.proj_in(encoded)
        for layer in self.layers:
            h = layer(h, seen)
        return self.norm_out(self.proj_out(h))


class _LooksAndThinks(nn.ModuleList):
    def forward(self, h: Tensor, seen: Tensor) -> Tensor:
        """h [B, T, D], seen [B, N, D] -> [B, T, D]"""
        look, think = self
        h = h + look(h, seen)
        return h + think(h)


class _Looks(nn.Module):
    """Attention of the queries to what is seen, followed by themselves; heads of 64 channels."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        inner = 64 * heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, h: Tensor, seen: Tensor) -> Tensor:
        """h [B, T, D], seen [B, N, D] -> [B, T, D]"""
        h = self.norm2(h)
        k, v = self.to_kv(torch.cat([self.norm1(seen), h], dim=1)).chunk(2, dim=-1)
        q, k, v = (split_heads(part, 64) for part in (self.to_q(h), k, v))
        return self.to_out(join_heads(attend(q, k, v)))


def _feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 4 * width, bias=False),
        nn.GELU(),
        nn.Linear(4 * width, width, bias=False),
    )


_PROJECTIONS = {"plain": _Plain, "full": _Full, "plus": _Plus, "face": _Face}
