"""A small multimodal diffusion transformer: picture and word tokens in one attention, each with
weights of its own (Esser et al., 2024, SD3), with 2D rotary positions and one modulation shared
by all blocks plus an offset per block (Chen et al., 2023, PixArt)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from diptych.nn.attention import attend, join_heads
from diptych.nn.blocks import MLP, KeysAndValues, RowLinear, SelfAttention, zero_init
from diptych.nn.norms import RMSNorm, bare_norm
from diptych.nn.positions import grid, rotary, sine_features
from diptych.nn.reuse import FirstBlocks

Heads = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class MMDiTConfig:
    """`patch_size` in latent cells; `layout_*`: classes of the training-only layout head, read
    after block `layout_after` (0: no such head)."""

    latent_channels: int = 16
    patch_size: int = 1
    width: int = 160
    depth: int = 8
    head_dim: int = 32
    hidden: int = 480
    context_width: int = 128
    layout_classes: int = 0
    layout_after: int = 5

    @classmethod
    def tiny(cls, **changes: int) -> MMDiTConfig:
        small = cls(
            latent_channels=4, width=32, depth=2, head_dim=16, hidden=64, context_width=32,
            layout_classes=3, layout_after=1,
        )  # fmt: skip
        return replace(small, **changes)


class _Stream(nn.Module):
    """One kind of token's half of a joint block."""

    def __init__(self, config: MMDiTConfig):
        super().__init__()
        width = config.width
        self.attention = SelfAttention(width, config.head_dim)
        self.mlp = MLP(width, config.hidden)
        # shift, scale, gate of attention, then of the MLP. The gates are open and what they let
        # through starts at nothing.
        offset = torch.tensor([0.0, 0, 1, 0, 0, 1])
        self.modulation_offset = nn.Parameter(offset[:, None].repeat(1, width))
        zero_init(self.attention.out)
        zero_init(self.mlp.down)

    def heads(self, h: Tensor, c: Tensor, angles: Tensor | None) -> Heads:
        """h [B, N, D], c [B, 6, D] -> query, key, value [B, H, N, head_dim]"""
        shift, scale = (c + self.modulation_offset)[:, :2, None].unbind(1)
        return self.attention.heads(bare_norm(h) * (1 + scale) + shift, angles)

    def forward(self, h: Tensor, seen: Tensor, c: Tensor) -> Tensor:
        """h and what attention brought [B, N, D] -> h after the block"""
        gate, shift, scale, last_gate = (c + self.modulation_offset)[:, 2:, None].unbind(1)
        h = h + gate * self.attention.out(seen)
        return h + last_gate * self.mlp(bare_norm(h) * (1 + scale) + shift)


class _Seen(nn.Module):
    """Tokens that are looked at and learn nothing more: the words of the last block, whose
    output nobody would read (SD3's `context_pre_only`)."""

    def __init__(self, config: MMDiTConfig):
        super().__init__()
        self.attention = KeysAndValues(config.width, config.head_dim)
        self.modulation_offset = nn.Parameter(torch.zeros(2, config.width))  # shift, scale

    def heads(self, h: Tensor, c: Tensor, angles: Tensor | None) -> Heads:
        """h [B, N, D], c [B, 6, D] -> no query [B, H, 0, head_dim], key, value"""
        shift, scale = (c[:, :2] + self.modulation_offset)[:, :, None].unbind(1)
        k, v = self.attention(bare_norm(h) * (1 + scale) + shift, angles)
        return k[:, :, :0], k, v

    def forward(self, h: Tensor, seen: Tensor, c: Tensor) -> Tensor:
        return h


class JointBlock(nn.Module):
    """Attention over picture and words together, then an MLP for each; in the `last` block for
    the picture alone."""

    def __init__(self, config: MMDiTConfig, *, last: bool = False):
        super().__init__()
        self.picture = _Stream(config)
        self.words = _Seen(config) if last else _Stream(config)

    def forward(
        self, x: Tensor, y: Tensor, c: tuple[Tensor, Tensor], angles: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x [B, N, D], y [B, L, D], c two of [B, 6, D], mask [B, 1, 1, N + L] -> x, y"""
        pairs = self.picture.heads(x, c[0], angles), self.words.heads(y, c[1], None)
        q, k, v = (torch.cat(pair, dim=2) for pair in zip(*pairs, strict=True))
        queries = [pair[0].shape[2] for pair in pairs]
        seen = join_heads(attend(q, k, v, mask)).split(queries, dim=1)
        return self.picture(x, seen[0], c[0]), self.words(y, seen[1], c[1])


class MMDiT(nn.Module):
    """Noisy latent, time and words to a velocity."""

    def __init__(self, config: MMDiTConfig):
        super().__init__()
        self.config, width = config, config.width
        values = config.latent_channels * config.patch_size**2
        self.patch_in = nn.Linear(values, width)
        self.position_in = nn.Linear(64, width)
        self.context_in = nn.Linear(config.context_width, width)
        self.pooled_in = RowLinear(config.context_width, width)
        self.time_in, self.time_out = RowLinear(256, width), RowLinear(width, width)
        self.modulation = RowLinear(width, 12 * width)
        zero_init(self.modulation)
        self.blocks = nn.ModuleList(
            JointBlock(config, last=number == config.depth) for number in range(1, config.depth + 1)
        )
        self.final_modulation = RowLinear(width, 2 * width)
        self.patch_out = zero_init(nn.Linear(width, values))
        if config.layout_classes:
            self.layout_norm = RMSNorm(width)
            self.layout_head = nn.Linear(width, config.layout_classes)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        mask: Tensor,
        pooled: Tensor,
        reuse: FirstBlocks | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """x [B, C, H, W], t [B] in 0..1 (1: noise), context [B, L, E], mask [B, L] (True: a
        word), pooled [B, E] -> velocity [B, C, H, W], layout logits [B, N, K] or None, which are
        also not made where what was computed is used again (`reuse`)"""
        p = self.config.patch_size
        rows, columns = x.shape[2] // p, x.shape[3] // p
        place = grid(rows, columns).to(x.device)
        # Rotary positions tell what lies beside what; this tells where the edges are.
        fixed = torch.cat(
            [sine_features(axis, 32, period=64, octaves=5) for axis in place.unbind(-1)], dim=-1
        )
        # Places and times are told apart in float32, whatever the weights are.
        kind = self.patch_in.weight.dtype
        h = self.patch_in(_patches(x, p)) + self.position_in(fixed.to(kind))
        y = self.context_in(context)
        times = sine_features(t, 256, period=4, octaves=9).to(kind)
        time = self.time_out(silu(self.time_in(times)))
        c = silu(time + self.pooled_in(pooled))
        both = self.modulation(c).unflatten(-1, (2, 6, -1)).unbind(1)
        angles = rotary(place, self.config.head_dim, base=100.0)
        seen = torch.cat([mask.new_ones(len(x), h.shape[1]), mask], dim=1)[:, None, None]
        layout = None
        if reuse is not None:
            h = self._reusing(reuse, h, y, both, angles, seen)
        else:
            for number, block in enumerate(self.blocks, 1):
                h, y = block(h, y, both, angles, seen)
                if self.config.layout_classes and number == self.config.layout_after:
                    layout = self.layout_head(self.layout_norm(h))
        shift, scale = self.final_modulation(c)[:, None].chunk(2, dim=-1)
        h = self.patch_out(bare_norm(h) * (1 + scale) + shift)
        return _unpatched(h, p, rows, columns), layout

    def _reusing(
        self, reuse: FirstBlocks, x: Tensor, y: Tensor, c: tuple[Tensor, Tensor], angles: Tensor,
        mask: Tensor,
    ) -> Tensor:  # fmt: skip
        """The picture's tokens after all blocks, of which only the first may be asked."""

        def rest(h: Tensor, y: Tensor, one: Tensor, other: Tensor, seen: Tensor) -> Tensor:
            for block in [*self.blocks][1:]:
                h, y = block(h, y, (one, other), angles, seen)
            return h

        h, y = self.blocks[0](x, y, c, angles, mask)
        return reuse.ended(x, h, rest, y, *c, mask)


def _patches(x: Tensor, p: int) -> Tensor:
    """[B, C, H, W] -> [B, H/p * W/p, C * p * p]"""
    return torch.nn.functional.pixel_unshuffle(x, p).flatten(2).mT


def _unpatched(h: Tensor, p: int, rows: int, columns: int) -> Tensor:
    return torch.nn.functional.pixel_shuffle(h.mT.unflatten(2, (rows, columns)), p)
