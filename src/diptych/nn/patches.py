"""Pictures as rows of patches, and back."""

from __future__ import annotations

from torch import Tensor, nn

from diptych.nn.positions import sine_grid


def to_patches(x: Tensor, p: int) -> Tensor:
    """[B, C, H, W] -> [B, H / p * W / p, p * p * C], channels fastest"""
    patches = x.unflatten(3, (-1, p)).unflatten(2, (-1, p))  # [B, C, h, p, w, q]
    return patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def from_patches(tokens: Tensor, p: int, rows: int, columns: int) -> Tensor:
    """[B, rows * columns, p * p * C], channels fastest -> [B, C, rows * p, columns * p]"""
    patches = tokens.unflatten(2, (p, p, -1)).unflatten(1, (rows, columns))  # [B, h, w, p, q, C]
    return patches.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


class PatchEmbed(nn.Module):
    """Patches with sines of where they stand; nothing of that is stored. Names as published.

    `base`: of how many patches a side the network's own pictures are, see `sine_grid`.
    """

    def __init__(self, channels: int, width: int, p: int, *, base: int, scale: float = 1.0):
        super().__init__()
        self.base, self.scale = base, scale
        self.proj = nn.Conv2d(channels, width, p, stride=p)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, H / p * W / p, D]"""
        h = self.proj(x)
        places = sine_grid(h.shape[1], h.shape[2], h.shape[3], self.base, self.scale)
        return h.flatten(2).mT + places.to(h.device, h.dtype)
