"""Scaled dot-product attention, kept in float32 on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """q [B, H, N, D], k and v [B, H, M, D], mask [B or 1, H or 1, N or 1, M] (True: may look; or
    numbers of q's type that are added to the scores). `scale` of the scores, if not 1 / sqrt(D).

    On a CPU, autocast would hand bfloat16 to a kernel that is three times slower than the
    float32 one, so autocast is off inside; the result has the type of `v`. float64 stays so.
    """
    ready = q.dtype == k.dtype == v.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if ready or q.device.type != "cpu" or q.dtype == torch.float64:
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    with torch.autocast("cpu", enabled=False):
        if mask is not None and mask.is_floating_point():
            mask = mask.float()
        wide = q.float(), k.float(), v.float()
        out = scaled_dot_product_attention(*wide, attn_mask=mask, scale=scale)
    return out.to(v.dtype)


def attend_capped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, cap: float) -> Tensor:
    """The same with scores that never leave -cap..cap (Gemma Team, 2024, Gemma 2, section 2)."""
    wide = torch.promote_types(q.dtype, torch.float32)
    scores = (q @ k.mT).to(wide) * (q.shape[-1] ** -0.5 / cap)
    scores = (cap * scores.tanh()).masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1).to(v.dtype) @ v


def spread(x: Tensor, heads: int) -> Tensor:
    """Keys or values that several queries share (Ainslie et al., 2023), [B, G, N, D] -> [B, heads,
    N, D]: head h looks at number h * G / heads."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def split_heads(x: Tensor, head_dim: int) -> Tensor:
    """[B, N, H * D] -> [B, H, N, D]"""
    return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """[B, H, N, D] -> [B, N, H * D]"""
    return x.transpose(1, 2).flatten(-2)
