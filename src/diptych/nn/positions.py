"""Where a token stands: rotary positions in one and two dimensions, and sine-cosine times."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, pi

import torch
from torch import Tensor


def rotary(positions: Tensor, head_dim: int, base: float = 10_000.0) -> Tensor:
    """Angles for rotary positions (Su et al., 2021).

    positions [N, A], one column an axis; each axis turns its share of the head's dimensions.
    Returns cos and sin stacked, [2, N, head_dim / 2], float32.
    """
    axes = positions.shape[-1]
    count = head_dim // (2 * axes)
    rates = base ** (-torch.arange(count, device=positions.device, dtype=torch.float32) / count)
    angles = (positions.float()[..., None] * rates).flatten(-2)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """x [B, H, N, D] turned by angles [2, N, D / 2]; halves are paired as in LLaMA."""
    cos, sin = angles.to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def grid(height: int, width: int) -> Tensor:
    """Row and column of every cell in reading order, [height * width, 2]."""
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)
    return torch.stack([rows, columns], dim=-1)


def rotary_pairs(positions: Tensor, widths: Sequence[int], base: float = 10_000.0) -> Tensor:
    """Cosines and sines for `rotate_pairs`, [2, ..., sum(widths) / 2] float64.

    positions [..., A]: each axis turns `widths[a]` dimensions of a head, one behind the other.
    """
    wide = torch.float64
    rates = [base ** (-torch.arange(0, width, 2, dtype=wide) / width) for width in widths]
    axes = zip(positions.cpu().to(wide).unbind(-1), rates, strict=True)
    angles = torch.cat([axis[..., None] * rate for axis, rate in axes], dim=-1)
    return torch.stack([angles.cos(), angles.sin()])


def rotate_pairs(x: Tensor, turns: Tensor) -> Tensor:
    """x [B, H, N, D] turned by turns [2, N, D / 2] or [2, B, 1, N, D / 2]; neighbours are paired,
    as by Su et al. (2021). In float32 or finer."""
    wide = torch.promote_types(x.dtype, torch.float32)
    cos, sin = turns.to(wide)
    pairs = x.to(wide).unflatten(-1, (-1, 2))
    if x.device.type == "cpu":  # one pass over memory: a sixth of the time, the same bits
        whole = torch.view_as_complex(pairs) * torch.complex(cos, sin)
        return torch.view_as_real(whole).flatten(-2).to(x.dtype)
    a, b = pairs.unbind(-1)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2).to(x.dtype)


def sine_grid(width: int, rows: int, columns: int, base: float, scale: float = 1.0) -> Tensor:
    """Sines and cosines of every cell's column, then of its row, [rows * columns, width] float32.

    The places run over `base` / `scale` from edge to edge, however many cells there are, as in a
    picture that was scaled (PixArt-alpha; Chen et al., 2023). They are float32, the angles finer,
    as published.
    """
    quarter = width // 4
    rates = 1e4 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)

    def waves(count: int) -> Tensor:
        places = torch.arange(count, dtype=torch.float32) / (count / base) / scale
        angles = places.double()[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=-1).float()

    across = waves(columns)[None].expand(rows, -1, -1)
    down = waves(rows)[:, None].expand(-1, columns, -1)
    return torch.cat([across, down], dim=-1).flatten(0, 1)


def sine_features(values: Tensor, width: int, *, period: float, octaves: float) -> Tensor:
    """values [N] -> cosines and sines [N, width], their longest wave `period` long and their
    shortest 2 ** -octaves of it."""
    half = width // 2
    rates = 2 ** torch.linspace(0, octaves, half, device=values.device)
    angles = (2 * pi / period) * values.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def timestep_features(
    values: Tensor, width: int, kind: torch.dtype = torch.float32, shift: float = 0.0
) -> Tensor:
    """values [...] -> cosines, then sines, [..., width] of type `kind`; times are 0..1000.

    The positions of Vaswani et al. (2017), as diffusion networks use them for time (Ho et al.,
    2020). `shift` 1 takes the longest wave to its full length, as Ho et al. have it; later
    networks stop one short. Angles are float32 or finer whatever `kind` is: bfloat16 has no odd
    times above 256.
    """
    half = width // 2
    wide = torch.promote_types(kind, torch.float32)
    steps = torch.arange(half, device=values.device, dtype=wide)
    angles = values.to(wide)[..., None] * torch.exp(-log(10_000) * steps / (half - shift))
    return torch.cat([angles.cos(), angles.sin()], dim=-1).to(kind)


def number_features(numbers: Tensor, width: int, kind: torch.dtype = torch.float32) -> Tensor:
    """numbers [B, K] -> the features of each, side by side, [B, K * width]: sizes and crops
    (SDXL; Podell et al., 2023, section 2.2)."""
    return timestep_features(numbers, width, kind).flatten(1)
