"""A layer of the decoder: grouped attention whose keys and values are kept, and a gated MLP. Names
are those of the published folders."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

from diptych.decoding.slots import KVView
from diptych.models.decoder_config import DecoderConfig
from diptych.nn.attention import attend, attend_capped
from diptych.nn.fused import Fused
from diptych.nn.norms import PlusOneNorm, RMSNorm
from diptych.nn.rope import turn


def norm_of(config: DecoderConfig, width: int) -> nn.Module:
    """The family's root mean square norm."""
    return (PlusOneNorm if config.plus_one else RMSNorm)(width, config.norm_epsilon)


class GatedMLP(nn.Module):
    """One half of the hidden units lets through the other (Shazeer, 2020)."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.up_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.down_proj = nn.Linear(config.hidden, config.width, bias=False)
        self.smooth = config.activation == "gelu_tanh"
        self.fused: Fused | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]"""
        if self.fused is None:
            gate, up = self.gate_proj(x), self.up_proj(x)
        else:
            gate, up = self.fused(x).chunk(2, dim=-1)
        opened = gelu(gate, approximate="tanh") if self.smooth else silu(gate)
        return self.down_proj(opened * up)


class DecoderLayer(nn.Module):
    """Attention, then an MLP. Without `sandwich`, the norm before the MLP is named as the one
    behind the attention is with it."""

    def __init__(self, config: DecoderConfig, number: int):
        super().__init__()
        self.self_attn, self.mlp = DecoderAttention(config, number), GatedMLP(config)
        self.input_layernorm = norm_of(config, config.width)
        self.post_attention_layernorm = norm_of(config, config.width)
        around = config.sandwich
        self.pre_feedforward_layernorm = norm_of(config, config.width) if around else None
        self.post_feedforward_layernorm = norm_of(config, config.width) if around else None

    def forward(self, x: Tensor, turns: Tensor, seen: Tensor | None, view: KVView | None) -> Tensor:
        """x [B, N, D], turns [2, B, N, 1, head_dim] -> [B, N, D]"""
        looked = self.self_attn(self.input_layernorm(x), turns, seen, view)
        before, after = self.pre_feedforward_layernorm, self.post_feedforward_layernorm
        if before is None or after is None:
            x = x + looked
            return x + self.mlp(self.post_attention_layernorm(x))
        x = x + self.post_attention_layernorm(looked)
        return x + after(self.mlp(before(x)))

    def pack(self) -> None:
        """As `Decoder.pack`."""
        self.self_attn.pack()
        self.mlp.fused = Fused([self.mlp.gate_proj, self.mlp.up_proj])
        Fused([self.mlp.down_proj])  # laid the same way


class DecoderAttention(nn.Module):
    """Causal self-attention; heads of one group ask the same keys (Ainslie et al., 2023)."""

    def __init__(self, config: DecoderConfig, number: int):
        super().__init__()
        self.number, self.heads, self.groups = number, config.heads, config.groups
        self.head_dim, self.cap, width = config.head_dim, config.cap, config.width
        own, shared = config.heads * config.head_dim, config.groups * config.head_dim
        self.scale = (config.scale_width or config.head_dim) ** -0.5
        self.q_proj = nn.Linear(width, own, bias=config.bias)
        self.k_proj = nn.Linear(width, shared, bias=config.bias)
        self.v_proj = nn.Linear(width, shared, bias=config.bias)
        self.o_proj = nn.Linear(own, width, bias=False)
        each = config.unturned_each
        self.turned = not each or (number + 1) % each != 0
        self.q_norm = norm_of(config, config.head_dim) if config.head_norm else None
        self.k_norm = norm_of(config, config.head_dim) if config.head_norm else None
        self.fused: Fused | None = None

    def forward(self, x: Tensor, turns: Tensor, seen: Tensor | None, view: KVView | None) -> Tensor:
        """x [B, N, D], turns [2, B, N, 1, head_dim], seen [B or 1, 1, N, M] -> [B, N, D]"""
        q, k, v = self._heads(x, turns)
        if view is None:
            k, v = k.transpose(1, 2), v.transpose(1, 2)
        else:
            k, v = view.write(self.number, k, v)
        if view is None or view.shared is None:
            return self.o_proj(self._look(q, k, v, seen))
        shared = view.shared.keys[self.number], view.shared.values[self.number]
        return self.o_proj(self._look_at_both(q, shared, (k, v), seen))

    def _heads(self, x: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, N, H, head_dim], keys and values [B, N, G, head_dim]."""
        if self.fused is None:
            all_heads = torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], dim=-1)
        else:
            all_heads = self.fused(x)
        all_heads = all_heads.unflatten(-1, (-1, self.head_dim))
        asked = all_heads[:, :, : self.heads + self.groups]
        values = all_heads[:, :, self.heads + self.groups :]
        if self.q_norm is not None and self.k_norm is not None:
            q, k = asked.split([self.heads, self.groups], dim=2)
            asked = torch.cat([self.q_norm(q), self.k_norm(k)], dim=2)
        if self.turned:
            asked = turn(asked, turns).to(values.dtype)
        return asked[:, :, : self.heads], asked[:, :, self.heads :], values

    def _folded(self, q: Tensor) -> Tensor:
        """[B, N, H, E] -> [B, G, H / G * N, E]: heads of a group stand one behind the other."""
        batch, count, _, size = q.shape
        parts = q.view(batch, count, self.groups, -1, size).permute(0, 2, 3, 1, 4)
        return parts.reshape(batch, self.groups, -1, size)

    def _unfolded(self, out: Tensor, count: int) -> Tensor:
        """[B, G, H / G * N, E] -> [B, N, H * E]"""
        parts = out.unflatten(2, (-1, count)).permute(0, 3, 1, 2, 4)
        return parts.flatten(2)

    def _look(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
        """q [B, N, H, E], k and v [B, G, M, E] -> [B, N, H * E]"""
        count = q.shape[1]
        if seen is not None:
            seen = seen.repeat(1, 1, self.heads // self.groups, 1)
        if self.cap:
            out = self._capped(self._folded(q), k, v, seen)
        else:
            out = attend(self._folded(q), k, v, seen, self.scale)
        return self._unfolded(out, count)

    def _capped(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
        if seen is None:
            seen = torch.ones(1, 1, 1, k.shape[2], dtype=torch.bool, device=k.device)
        usual = self.head_dim**-0.5
        return attend_capped(q * (self.scale / usual), k, v, seen, self.cap)

    def _look_at_both(
        self,
        q: Tensor,
        shared: tuple[Tensor, Tensor],
        own: tuple[Tensor, Tensor],
        seen: Tensor | None,
    ) -> Tensor:
        """The same at a prefix [G, P, E] that all texts have, and at their own rows [B, G, M, E]:
        one softmax over both, and the prefix is read once for all texts."""
        batch, count = q.shape[:2]
        folded = self._folded(q) * self.scale
        flat = folded.transpose(0, 1).flatten(1, 2)  # [G, B * N', E]
        before = (flat @ shared[0].mT).unflatten(1, (batch, -1)).transpose(0, 1)
        scores = torch.cat([before, folded @ own[0].mT], dim=-1)
        if self.cap:
            scores = self.cap * (scores / self.cap).tanh()
        if seen is not None:
            hidden = ~seen.repeat(1, 1, self.heads // self.groups, 1)
            scores = scores.masked_fill(hidden, float("-inf"))
        wide = torch.promote_types(scores.dtype, torch.float32)
        weights = scores.softmax(dim=-1, dtype=wide).to(q.dtype)
        first, last = weights.split([shared[0].shape[1], own[0].shape[2]], dim=-1)
        seen_before = first.transpose(0, 1).flatten(1, 2) @ shared[1]
        out = seen_before.unflatten(1, (batch, -1)).transpose(0, 1) + last @ own[1]
        return self._unfolded(out, count)

    def pack(self) -> None:
        """As `Decoder.pack`."""
        self.fused = Fused([self.q_proj, self.k_proj, self.v_proj])
        Fused([self.o_proj])  # laid the same way
