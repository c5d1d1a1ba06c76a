"""Attention and feed-forward layers of diffusion transformers, with biases throughout. Names are
those of the published folders."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import gelu

from diptych.nn.attention import attend, join_heads, split_heads


class MultiHead(nn.Module):
    """Queries from one sequence, keys and values from the same or another of the same width."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.head_dim = width // heads
        self.to_q, self.to_k = nn.Linear(width, width), nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(
        self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """x [B, N, D], context [B, L, D], mask [B, 1, 1, L] (True: may look) -> [B, N, D]"""
        seen = x if context is None else context
        parts = self.to_q(x), self.to_k(seen), self.to_v(seen)
        q, k, v = (split_heads(part, self.head_dim) for part in parts)
        return self.to_out(join_heads(attend(q, k, v, mask)))


class _Activated(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.proj = nn.Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, hidden]"""
        return gelu(self.proj(x), approximate="tanh")


class FeedForward(nn.Module):
    """To four times the width and back, with the GELU of the tanh."""

    def __init__(self, width: int):
        super().__init__()
        # Identity: the place of the dropout that the published files count.
        self.net = nn.Sequential(
            _Activated(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]"""
        return self.net(x)
