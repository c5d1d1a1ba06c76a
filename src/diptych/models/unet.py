"""The conditional U-Net of Stable Diffusion 1 and 2 (Rombach et al., 2022) and of SDXL with its
refiner (Podell et al., 2023): one network, the sizes are data. Names of parameters are those of
the published folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from torch import Tensor, nn
from torch.nn.functional import silu

from diptych.models.unet_blocks import (
    Attention,
    Context,
    DownBlock,
    LevelShape,
    MidBlock,
    Sight,
    TimeEmbedding,
    TransformerBlock,
    UpBlock,
)
from diptych.nn.positions import timestep_features


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """`widths`, `depths` and `heads` are one number a level, from the largest picture down.

    A level has `blocks` residual blocks on the way down and one more on the way up, each with
    `depths[level]` transformer blocks behind it (0: no attention there); `mid_depth` below.
    `vector_width`: of the pooled words with the embedded sizes (SDXL), 0 for none.
    """

    in_channels: int = 4
    out_channels: int = 4
    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    blocks: int = 2
    depths: tuple[int, ...] = (1, 1, 1, 0)
    mid_depth: int = 1
    heads: tuple[int, ...] = (8, 8, 8, 8)
    context_width: int = 768
    linear_projection: bool = False
    vector_width: int = 0
    groups: int = 32

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.depths) == len(self.heads) > 0:
            raise ValueError("widths, depths and heads need one number for each level")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % self.groups or width % heads:
                raise ValueError(f"{width} channels do not part into groups and heads")

    @property
    def time_width(self) -> int:
        return 4 * self.widths[0]

    @property
    def state_widths(self) -> list[int]:
        """Channels of the states that the way down leaves for the way up, in order."""
        widths = [self.widths[0]]
        for level, width in enumerate(self.widths, 1):
            widths += [width] * (self.blocks + (level < len(self.widths)))
        return widths

    def level(self, index: int, depth: int) -> LevelShape:
        """The shape of a level, with its own depth or that of the middle."""
        return LevelShape(
            width=self.widths[index],
            depth=depth,
            heads=self.heads[index],
            context_width=self.context_width,
            linear_projection=self.linear_projection,
            time_width=self.time_width,
            groups=self.groups,
        )

    @classmethod
    def tiny(cls, **changes: int | bool | tuple[int, ...]) -> UNetConfig:
        small = cls(
            widths=(32, 64), blocks=1, depths=(1, 0), heads=(4, 4), context_width=32, groups=8
        )
        return replace(small, **changes)


SD1 = UNetConfig()
SD1_INPAINT = UNetConfig(in_channels=9)  # and the mask and the masked latent
SD1_PIX2PIX = UNetConfig(in_channels=8)  # and the latent of the picture to be edited
SD2 = UNetConfig(heads=(5, 10, 20, 20), context_width=1024, linear_projection=True)
SDXL = UNetConfig(
    widths=(320, 640, 1280),
    depths=(0, 2, 10),
    mid_depth=10,
    heads=(5, 10, 20),
    context_width=2048,
    linear_projection=True,
    vector_width=2816,
)
SDXL_REFINER = UNetConfig(
    widths=(384, 768, 1536, 1536),
    depths=(0, 4, 4, 0),
    mid_depth=4,
    heads=(6, 12, 24, 24),
    context_width=1280,
    linear_projection=True,
    vector_width=2560,
)


class UNetEncoder(nn.Module):
    """The way down and the middle, which a ControlNet has too."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        widths, last = config.widths, len(config.widths) - 1
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], config.time_width)
        self.add_embedding = (
            TimeEmbedding(config.vector_width, config.time_width) if config.vector_width else None
        )
        self.down_blocks = nn.ModuleList(
            DownBlock(
                widths[max(level - 1, 0)],
                config.level(level, depth),
                count=config.blocks,
                last=level == last,
            )
            for level, depth in enumerate(config.depths)
        )
        self.mid_block = MidBlock(config.level(last, config.mid_depth))

    def times(self, t: Tensor, vector: Tensor | None, beside: Tensor | None = None) -> Tensor:
        """t [B], vector [B, V] or None -> what every residual block is told, [B, T]; `beside`
        [B, T] is told with it"""
        if (vector is None) != (self.add_embedding is None):
            raise ValueError("a vector is for networks with a vector_width, and needed there")
        embed = self.time_embedding
        time = embed(timestep_features(t, embed.linear_1.in_features, embed.linear_1.weight.dtype))
        if self.add_embedding is not None:
            time = time + self.add_embedding(vector)
        if beside is not None:
            time = time + beside
        return silu(time)

    def encode(
        self, h: Tensor, time: Tensor, context: Context, features: Sequence[Tensor] = ()
    ) -> list[Tensor]:
        """h [B, C, H, W], time [B, T], context [B, L, D] -> h and the state after each step;
        `features`: of a T2I-Adapter, one a level"""
        states = [h]
        coarse = isinstance(context, Sight) and context.coarse
        for block, feature in zip_longest(self.down_blocks, features[: len(self.down_blocks)]):
            states += block(states[-1], time, context, feature, coarse=coarse)
            coarse = False  # the first level alone
        return states


class UNet(UNetEncoder):
    """Noisy latent, time and words to a prediction."""

    def __init__(self, config: UNetConfig):
        super().__init__(config)
        self.config = config
        levels = range(len(config.widths))
        widths = config.state_widths
        before, blocks = config.widths[-1], list[UpBlock]()
        for level in reversed(levels):
            beside = [widths.pop() for _ in range(config.blocks + 1)]
            shape = config.level(level, config.depths[level])
            blocks.append(UpBlock(before, beside, shape, last=level == 0))
            before = shape.width
        self.up_blocks = nn.ModuleList(blocks)
        self.conv_norm_out = nn.GroupNorm(config.groups, before)
        self.conv_out = nn.Conv2d(before, config.out_channels, 3, padding=1)

    def attentions(self) -> list[Attention]:
        """Those that look at the words, in the order in which files of IP-Adapters number them:
        down, up, middle."""
        ways = [*self.down_blocks, *self.up_blocks, self.mid_block]
        blocks = [one for way in ways for one in way.modules() if isinstance(one, TransformerBlock)]
        return [block.attn2 for block in blocks]

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Context,
        vector: Tensor | None = None,
        down_residuals: Sequence[Tensor] | None = None,
        mid_residual: Tensor | None = None,
        features: Sequence[Tensor] = (),
    ) -> Tensor:
        """x [B, C, H, W], t [B] in 0..1000, context [B, L, D], vector [B, V] -> [B, C', H, W]

        The residuals are a ControlNet's, one for each state of `encode` and one for the middle.
        `features` are a T2I-Adapter's, one a level, and one more for the middle if there is.
        `context` may be what each of `attentions` sees (`Attention.look`).
        """
        time = self.times(t, vector)
        states = self.encode(self.conv_in(x), time, context, features)
        h = self.mid_block(states[-1], time, context)
        for feature in features[len(self.down_blocks) :]:
            h = h + feature
        if down_residuals is not None:
            states = [a + b for a, b in zip(states, down_residuals, strict=True)]
        if mid_residual is not None:
            h = h + mid_residual
        for block in self.up_blocks:
            h = block(h, states, time, context)
        return self.said(h)

    def said(self, h: Tensor) -> Tensor:
        """The last state [B, C, H, W] -> [B, C', H, W]; it is this call's own"""
        return self.conv_out(silu(self.conv_norm_out(h), inplace=True))
