"""What the U-Nets of Stable Diffusion are built of: levels of residual blocks, with transformers
in which the picture looks at itself and at the words (Rombach et al., 2022). Names of modules are
those of the published folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from diptych.nn.adaptive import TimeEmbedding as TimeEmbedding
from diptych.nn.attention import attend, join_heads, split_heads
from diptych.nn.conv import Downsample, ResnetBlock, Upsample


@dataclass(frozen=True, kw_only=True)
class LevelShape:
    """What the blocks of one level share; `depth` transformer blocks an attention (0: none)."""

    width: int
    depth: int
    heads: int
    context_width: int
    linear_projection: bool
    time_width: int
    groups: int

    def resnet(self, before: int) -> ResnetBlock:
        """A residual block from `before` channels to the level's width."""
        return ResnetBlock(before, self.width, time_width=self.time_width, groups=self.groups)

    def attentions(self, count: int) -> nn.ModuleList:
        """One spatial transformer for each of `count` residual blocks, or none at all."""
        return nn.ModuleList(SpatialTransformer(self) for _ in range(count if self.depth else 0))


class Seen(NamedTuple):
    """What an attention looks at, ready for use: keys and values [B, heads, L, D] of the words, and
    `others` looked at beside them, each with its strength [B, 1, 1, 1] (IP-Adapter, Ye et al.,
    2023, eq. 5)."""

    k: Tensor
    v: Tensor
    others: tuple[tuple[Tensor, Tensor, Tensor], ...] = ()


@dataclass(frozen=True, eq=False)
class Sight:
    """What each attention sees of the `words`, and the rest of how a call looks: `own`, of an
    attention, h [B, N, C] and its height and width in cells, how pictures look at themselves;
    `coarse`: whether the first level goes down to a quarter of its sides, not to a half."""

    words: Mapping[nn.Module, Seen]
    own: Callable[[Attention, Tensor, tuple[int, int]], Tensor]
    coarse: bool = False


# Words [B, L, D], or for each attention that looks at them what it sees.
Context = Tensor | Mapping[nn.Module, Seen] | Sight


class Attention(nn.Module):
    """Queries from the picture, keys and values from the picture or the words; no biases but the
    last."""

    def __init__(self, width: int, heads: int, context_width: int):
        super().__init__()
        self.head_dim = width // heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_width, width, bias=False)
        self.to_v = nn.Linear(context_width, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def heads_of(self, x: Tensor) -> Tensor:
        """[B, L, C] -> [B, heads, L, D]"""
        return split_heads(x, self.head_dim)

    def look(self, context: Tensor) -> Seen:
        """context [B, L, D] -> what is seen of it, the same at every step"""
        return Seen(self.heads_of(self.to_k(context)), self.heads_of(self.to_v(context)))

    def forward(self, x: Tensor, context: Tensor | Mapping[nn.Module, Seen]) -> Tensor:
        """x [B, N, C], context [B, L, D] or what is seen of it -> [B, N, C]"""
        q = self.heads_of(self.to_q(x))
        seen = self.look(context) if isinstance(context, Tensor) else context[self]
        out = attend(q, seen.k, seen.v)
        for k, v, strength in seen.others:
            out = out + strength * attend(q, k, v)
        return self.to_out(join_heads(out))


class GatedLinear(nn.Module):
    """A linear map whose first half passes a gate made of the second (GEGLU, Shazeer, 2020)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.proj = nn.Linear(width, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C] -> [B, N, hidden]"""
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * gelu(gate)


class FeedForward(nn.Module):
    """To four times the width and back."""

    def __init__(self, width: int):
        super().__init__()
        # Identity: the place of the dropout that the published files count.
        self.net = nn.Sequential(
            GatedLinear(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C] -> [B, N, C]"""
        return self.net(x)


class TransformerBlock(nn.Module):
    """The picture looks at itself, at the words, and thinks."""

    def __init__(self, shape: LevelShape):
        super().__init__()
        width, heads = shape.width, shape.heads
        self.norm1, self.attn1 = nn.LayerNorm(width), Attention(width, heads, width)
        self.norm2, self.attn2 = nn.LayerNorm(width), Attention(width, heads, shape.context_width)
        self.norm3, self.ff = nn.LayerNorm(width), FeedForward(width)

    def forward(self, x: Tensor, context: Context, cells: tuple[int, int]) -> Tensor:
        """x [B, N, C], context [B, L, D], height and width in cells -> [B, N, C]"""
        h = self.norm1(x)
        if isinstance(context, Sight):
            x, context = x + context.own(self.attn1, h, cells), context.words
        else:
            x = x + self.attn1(h, h)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the cells of a picture, around a residual. SD 1 projects by 1x1
    convolutions, later models by linear maps, which is the same in another shape."""

    def __init__(self, shape: LevelShape):
        super().__init__()
        width = shape.width
        self.linear = shape.linear_projection
        self.norm = nn.GroupNorm(shape.groups, width, eps=1e-6)
        self.proj_in = nn.Linear(width, width) if self.linear else nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList(TransformerBlock(shape) for _ in range(shape.depth))
        self.proj_out = nn.Linear(width, width) if self.linear else nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """x [B, C, H, W], context [B, L, D] -> [B, C, H, W]"""
        h = self.norm(x)
        h = self.proj_in(_tokens(h)) if self.linear else _tokens(self.proj_in(h))
        for block in self.transformer_blocks:
            h = block(h, context, (x.shape[2], x.shape[3]))
        h = _cells(self.proj_out(h), x) if self.linear else self.proj_out(_cells(h, x))
        return x + h


class DownBlock(nn.Module):
    """One level on the way down."""

    def __init__(self, before: int, shape: LevelShape, *, count: int, last: bool):
        super().__init__()
        widths = [before] + [shape.width] * (count - 1)
        self.resnets = nn.ModuleList(shape.resnet(width) for width in widths)
        self.attentions = shape.attentions(count)
        self.downsamplers = nn.ModuleList() if last else nn.ModuleList([Downsample(shape.width)])

    def forward(
        self, x: Tensor, time: Tensor, context: Context, feature: Tensor | None = None, *,
        coarse: bool = False,
    ) -> list[Tensor]:  # fmt: skip
        """x [B, C, H, W], time [B, T], context [B, L, D] -> the state after each step; `feature`
        (a T2I-Adapter's) is added before the picture gets smaller, without attention after it;
        `coarse`: it gets a quarter of its sides"""
        states: list[Tensor] = []
        for number in range(len(self.resnets)):
            x = self.layer(number, x, time, context)
            states.append(x)
        if feature is not None and self.attentions:
            states[-1] = states[-1] + feature
        # Of every other cell: the kernel with holes and twice the stride (HiDiffusion, eq. 4).
        below = states[-1][:, :, ::2, ::2] if coarse else states[-1]
        states += [down(below) for down in self.downsamplers]
        if feature is not None and not self.attentions:
            states[-1] = states[-1] + feature
        return states

    def layer(self, number: int, x: Tensor, time: Tensor, context: Context) -> Tensor:
        """A residual block and what is behind it, [B, C, H, W] -> [B, C', H, W]"""
        x = self.resnets[number](x, time)
        return self.attentions[number](x, context) if self.attentions else x


class MidBlock(nn.Module):
    """The lowest place."""

    def __init__(self, shape: LevelShape):
        super().__init__()
        self.resnets = nn.ModuleList(shape.resnet(shape.width) for _ in range(2))
        self.attentions = shape.attentions(1)

    def forward(self, x: Tensor, time: Tensor, context: Context) -> Tensor:
        """x [B, C, H, W], time [B, T], context [B, L, D] -> [B, C, H, W]"""
        x = self.resnets[0](x, time)
        for attention in self.attentions:
            x = attention(x, context)
        return self.resnets[1](x, time)


class UpBlock(nn.Module):
    """One level on the way up; `before` and `beside` are the widths of what comes from below and
    of the states that are joined, first joined first."""

    def __init__(self, before: int, beside: list[int], shape: LevelShape, *, last: bool):
        super().__init__()
        below = [before] + [shape.width] * (len(beside) - 1)
        self.resnets = nn.ModuleList(
            shape.resnet(one + other) for one, other in zip(below, beside, strict=True)
        )
        self.attentions = shape.attentions(len(beside))
        self.upsamplers = nn.ModuleList() if last else nn.ModuleList([Upsample(shape.width)])

    def forward(self, x: Tensor, states: list[Tensor], time: Tensor, context: Context) -> Tensor:
        """x [B, C, H, W], time [B, T], context [B, L, D] -> [B, C', 2 H, 2 W]; takes its states
        off the end of the list, and the size from the next, which may be odd"""
        x = self.layers(range(len(self.resnets)), x, states, time, context)
        for up in self.upsamplers:
            x = up(x, states[-1].shape[-2:])
        return x

    def layers(
        self, numbers: Iterable[int], x: Tensor, states: list[Tensor], time: Tensor,
        context: Context,
    ) -> Tensor:  # fmt: skip
        """Some of its residual blocks with what is behind them, each with the last state, which
        it takes off"""
        for number in numbers:
            x = self.resnets[number](torch.cat([x, states.pop()], dim=1), time)
            if self.attentions:
                x = self.attentions[number](x, context)
        return x


# Both are copied to their own order, which is faster than adding across two orders afterwards.
def _tokens(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, H * W, C]"""
    return x.flatten(2).transpose(1, 2).contiguous()


def _cells(tokens: Tensor, like: Tensor) -> Tensor:
    """[B, H * W, C] -> [B, C, H, W] with the size of `like`"""
    return tokens.transpose(1, 2).unflatten(2, like.shape[2:]).contiguous()
