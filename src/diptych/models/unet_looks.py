"""How a U-Net's pictures may look at themselves in another way than each at all of itself: in
windows (Zhang et al., 2023, HiDiffusion, section 3.3), or at another row of the batch (Cao et al.,
2023, MasaCtrl, eq. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diptych.models.unet import UNet
from diptych.models.unet_blocks import Attention, TransformerBlock
from diptych.nn.attention import attend, join_heads

SHIFTS = 4  # places that the windows take in turn


def windows(x: Tensor, cells: tuple[int, int], shift: int) -> Tensor:
    """[B, heads, H * W, D] -> [4 B, heads, H * W / 4, D]: four windows, each half as high and wide,
    of the picture moved cyclically by `shift` quarters of a window. H and W are even."""
    height, width = cells
    grid = torch.roll(x.unflatten(2, cells), _moved(cells, shift, -1), dims=(2, 3))
    parts = grid.unflatten(3, (2, width // 2)).unflatten(2, (2, height // 2))
    # [B, heads, 2, H / 2, 2, W / 2, D]
    return parts.permute(0, 2, 4, 1, 3, 5, 6).flatten(4, 5).flatten(0, 2)


def from_windows(x: Tensor, cells: tuple[int, int], shift: int) -> Tensor:
    """The way back."""
    height, width = cells
    parts = x.unflatten(0, (-1, 2, 2)).unflatten(4, (height // 2, width // 2))
    grid = parts.permute(0, 3, 1, 4, 2, 5, 6).flatten(4, 5).flatten(2, 3)
    return torch.roll(grid, _moved(cells, shift, 1), dims=(2, 3)).flatten(2, 3)


def _moved(cells: tuple[int, int], shift: int, way: int) -> tuple[int, int]:
    return way * shift * (cells[0] // 8), way * shift * (cells[1] // 8)


@dataclass(frozen=True, eq=False)
class OwnLook:
    """How the rows of a call look at themselves: the attentions of `windowed` in windows at the
    place `shift`; those of `mutual` with the keys and values of the row `sources[i]` for row i."""

    windowed: frozenset[nn.Module] = frozenset()
    shift: int = 0
    mutual: frozenset[nn.Module] = frozenset()
    sources: Sequence[int] = ()

    def __call__(self, attention: Attention, h: Tensor, cells: tuple[int, int]) -> Tensor:
        """h [B, H * W, C] -> [B, H * W, C]"""
        q = attention.heads_of(attention.to_q(h))
        k, v, _ = attention.look(h)
        if attention in self.mutual:
            k, v = k[list(self.sources)], v[list(self.sources)]
        if attention not in self.windowed:
            return attention.to_out(join_heads(attend(q, k, v)))
        q, k, v = (windows(one, cells, self.shift) for one in (q, k, v))
        seen = attend(q, k, v)
        return attention.to_out(join_heads(from_windows(seen, cells, self.shift)))


def own_attentions(unet: UNet) -> list[Attention]:
    """Those by which the picture looks at itself, in the order in which they are asked."""
    ways = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    blocks = [one for way in ways for one in way.modules() if isinstance(one, TransformerBlock)]
    return [block.attn1 for block in blocks]


def finest_attentions(unet: UNet) -> tuple[int, frozenset[nn.Module]]:
    """The first level that has attention, and those of it by which the picture looks at itself."""
    level = next((i for i, depth in enumerate(unet.config.depths) if depth), 0)
    ways = unet.down_blocks[level], [*unet.up_blocks][-1 - level]
    blocks = [one for way in ways for one in way.modules() if isinstance(one, TransformerBlock)]
    return level, frozenset(block.attn1 for block in blocks)
