"""The U-Net without words: of DDPM (Ho et al., 2020, appendix B) and of ADM (Dhariwal and Nichol,
2021, section 3), which is told a class, norms by the time, and resamples inside residual blocks.
One network, the differences are data. Names of parameters are those of the published folders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, silu

from diptych.nn.adaptive import TimeEmbedding
from diptych.nn.attention import attend, join_heads, split_heads
from diptych.nn.blocks import RowLinear
from diptych.nn.conv import Downsample, ResnetBlock, Upsample
from diptych.nn.positions import timestep_features


@dataclass(frozen=True, kw_only=True)
class UNetADMConfig:
    """`widths` and `attention`, whether cells look at each other, are one value a level, from the
    largest picture down; in the middle they always do, with a norm before it if `mid_norm`.

    `head_dim`: channels of a head, 0 for one head of all. `scale_shift`: the time is a gain and a
    shift after the second norm, else it is added before. `residual`: sizes change inside residual
    blocks. `centred`: see `nn.conv.Downsample`. `sines_first`, `time_shift`: the features of a
    time, see `timestep_features`. `classes`: how many, 0 for none.
    """

    in_channels: int = 3
    out_channels: int = 3
    widths: tuple[int, ...] = (128, 256, 256, 256)
    blocks: int = 2
    attention: tuple[bool, ...] = (False, True, False, False)
    head_dim: int = 0
    mid_norm: bool = True
    scale_shift: bool = False
    residual: bool = False
    centred: bool = False
    sines_first: bool = True
    time_shift: float = 1.0
    classes: int = 0
    groups: int = 32
    norm_epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.attention) > 0:
            raise ValueError("widths and attention need one value for each level")
        for width in self.widths:
            if width % self.groups or (self.head_dim and width % self.head_dim):
                raise ValueError(f"{width} channels do not part into groups and heads")

    @classmethod
    def tiny(cls, **changes: Any) -> UNetADMConfig:
        small = cls(widths=(16, 32), blocks=1, attention=(False, True), groups=8)
        return replace(small, **changes)

    @property
    def state_widths(self) -> list[int]:
        """Channels of the states that the way down leaves for the way up, in order."""
        widths = [self.widths[0]]
        for level, width in enumerate(self.widths, 1):
            widths += [width] * (self.blocks + (level < len(self.widths)))
        return widths


DDPM_CIFAR10 = UNetADMConfig()
# The network of the consistency models on ImageNet (Song et al., 2023), which is ADM's.
ADM_IMAGENET_64 = UNetADMConfig(
    widths=(192, 384, 576, 768),
    blocks=3,
    attention=(False, True, True, True),
    head_dim=64,
    scale_shift=True,
    residual=True,
    centred=True,
    sines_first=False,
    time_shift=0.0,
    classes=1000,
    norm_epsilon=1e-5,
)


class _Resnet(ResnetBlock):
    """A residual block that may be told the time as a gain, and may change the size."""

    def __init__(self, config: UNetADMConfig, before: int, after: int, resample: str = ""):
        time_width = 4 * config.widths[0]
        super().__init__(
            before, after, time_width=time_width, groups=config.groups, eps=config.norm_epsilon
        )
        self.resample, self.scale_shift = resample, config.scale_shift
        if config.scale_shift:
            self.time_emb_proj = RowLinear(time_width, 2 * after)

    def forward(
        self, x: Tensor, time: Tensor | None = None, size: tuple[int, int] | None = None
    ) -> Tensor:
        """x [B, before, H, W], time [B, T] after its SiLU -> [B, after, H', W']; twice the size
        or `size` where it grows"""
        h = self._resized(silu(self.norm1(x)), size)
        h = self.conv1(h)
        told = self.time_emb_proj(time)[:, :, None, None]
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + told)
        h = self.conv2(silu(h))
        x = self._resized(x, size)
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))

    def _resized(self, x: Tensor, size: tuple[int, int] | None) -> Tensor:
        if self.resample == "down":
            return avg_pool2d(x, 2)
        if self.resample == "up":
            return interpolate(x, size=size or (2 * x.shape[2], 2 * x.shape[3]), mode="nearest")
        return x


class _Attention(nn.Module):
    """Every cell looks at every other, around a residual."""

    def __init__(self, config: UNetADMConfig, width: int, *, norm: bool = True):
        super().__init__()
        self.head_dim = config.head_dim or width
        self.group_norm = (
            nn.GroupNorm(config.groups, width, config.norm_epsilon) if norm else nn.Identity()
        )
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]"""
        h = self.group_norm(x).flatten(2).mT
        parts = self.to_q(h), self.to_k(h), self.to_v(h)
        q, k, v = (split_heads(part, self.head_dim) for part in parts)
        h = self.to_out(join_heads(attend(q, k, v)))
        return x + h.mT.unflatten(2, x.shape[2:])


def _attentions(config: UNetADMConfig, level: int, count: int) -> nn.ModuleList:
    width, there = config.widths[level], config.attention[level]
    return nn.ModuleList(_Attention(config, width) for _ in range(count if there else 0))


class _Down(nn.Module):
    """One level on the way down."""

    def __init__(self, config: UNetADMConfig, level: int):
        super().__init__()
        width, before = config.widths[level], config.widths[max(level - 1, 0)]
        widths = [before] + [width] * (config.blocks - 1)
        self.resnets = nn.ModuleList(_Resnet(config, one, width) for one in widths)
        self.attentions = _attentions(config, level, config.blocks)
        self.downsamplers = nn.ModuleList()
        if level + 1 < len(config.widths):
            self.downsamplers.append(
                _Resnet(config, width, width, "down")
                if config.residual
                else Downsample(width, centred=config.centred)
            )

    def forward(self, x: Tensor, time: Tensor) -> list[Tensor]:
        """x [B, C, H, W], time [B, T] -> the state after each step"""
        states: list[Tensor] = []
        for number, resnet in enumerate(self.resnets):
            x = resnet(x, time)
            x = self.attentions[number](x) if self.attentions else x
            states.append(x)
        for down in self.downsamplers:
            states.append(down(x, time) if isinstance(down, _Resnet) else down(x))
        return states


class _Middle(nn.Module):
    """The lowest place."""

    def __init__(self, config: UNetADMConfig):
        super().__init__()
        width = config.widths[-1]
        self.resnets = nn.ModuleList(_Resnet(config, width, width) for _ in range(2))
        self.attentions = nn.ModuleList([_Attention(config, width, norm=config.mid_norm)])

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x [B, C, H, W], time [B, T] -> [B, C, H, W]"""
        return self.resnets[1](self.attentions[0](self.resnets[0](x, time)), time)


class _Up(nn.Module):
    """One level on the way up; `before` and `beside` are the widths of what comes from below and
    of the states that are joined, first joined first."""

    def __init__(self, config: UNetADMConfig, level: int, before: int, beside: list[int]):
        super().__init__()
        width = config.widths[level]
        below = [before] + [width] * (len(beside) - 1)
        self.resnets = nn.ModuleList(
            _Resnet(config, one + other, width) for one, other in zip(below, beside, strict=True)
        )
        self.attentions = _attentions(config, level, len(beside))
        self.upsamplers = nn.ModuleList()
        if level:
            grow = _Resnet(config, width, width, "up") if config.residual else Upsample(width)
            self.upsamplers.append(grow)

    def forward(self, x: Tensor, states: list[Tensor], time: Tensor) -> Tensor:
        """x [B, C, H, W], time [B, T] -> [B, C', 2 H, 2 W]; takes its states off the end of the
        list, and the size from the next, which may be odd"""
        for number, resnet in enumerate(self.resnets):
            x = resnet(torch.cat([x, states.pop()], dim=1), time)
            x = self.attentions[number](x) if self.attentions else x
        for up in self.upsamplers:
            size = (states[-1].shape[2], states[-1].shape[3])
            x = up(x, time, size) if isinstance(up, _Resnet) else up(x, size)
        return x


class UNetADM(nn.Module):
    """A noisy picture, time and perhaps a class to a prediction."""

    def __init__(self, config: UNetADMConfig):
        super().__init__()
        self.config, widths = config, config.widths
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], 4 * widths[0])
        self.class_embedding = (
            nn.Embedding(config.classes, 4 * widths[0]) if config.classes else None
        )
        self.down_blocks = nn.ModuleList(_Down(config, level) for level in range(len(widths)))
        self.mid_block = _Middle(config)
        left, before, ups = config.state_widths, widths[-1], list[_Up]()
        for level in reversed(range(len(widths))):
            beside = [left.pop() for _ in range(config.blocks + 1)]
            ups.append(_Up(config, level, before, beside))
            before = widths[level]
        self.up_blocks = nn.ModuleList(ups)
        self.conv_norm_out = nn.GroupNorm(config.groups, before, config.norm_epsilon)
        self.conv_out = nn.Conv2d(before, config.out_channels, 3, padding=1)

    def times(self, t: Tensor, labels: Tensor | None) -> Tensor:
        """t [B], labels [B] -> what every residual block is told, [B, T]"""
        if (labels is None) != (self.class_embedding is None):
            raise ValueError("labels are for networks with classes, and needed there")
        embed, shift = self.time_embedding, self.config.time_shift
        features = timestep_features(
            t, embed.linear_1.in_features, embed.linear_1.weight.dtype, shift
        )
        if self.config.sines_first:
            features = torch.cat(features.chunk(2, dim=-1)[::-1], dim=-1)
        time = embed(features)
        return silu(time if self.class_embedding is None else time + self.class_embedding(labels))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """x [B, C, H, W], t [B] in 0..1000, labels [B] int64 -> [B, C', H, W]"""
        time = self.times(t, labels)
        states = [self.conv_in(x)]
        for block in self.down_blocks:
            states += block(states[-1], time)
        h = self.mid_block(states[-1], time)
        for block in self.up_blocks:
            h = block(h, states, time)
        return self.conv_out(silu(self.conv_norm_out(h)))
