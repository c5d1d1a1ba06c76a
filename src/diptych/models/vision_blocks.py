"""Parts of the vision tower: how patches are embedded and placed, its layer, and its heads."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from diptych.foundation.errors import InvalidValue
from diptych.models.clip_blocks import Activation, ClipAttention, ClipMLP
from diptych.nn.attention import attend, join_heads, split_heads
from diptych.nn.blocks import RowLinear
from diptych.nn.norms import RMSNorm

# How pictures of another size than the trained one are placed: not at all; by resizing the grid of
# positions (bicubic, with antialias or without); by the share of the picture that lies before.
Placing = Literal["fixed", "bicubic", "antialias", "fractional"]
Feedforward = Literal["plain", "swiglu"]
NormKind = Literal["layer", "rms"]


class EmbeddingShape(Protocol):
    """What the embeddings need of a config."""

    @property
    def image_size(self) -> int: ...
    @property
    def patch_size(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def class_token(self) -> bool: ...
    @property
    def registers(self) -> int: ...
    @property
    def mask_token(self) -> bool: ...
    @property
    def patch_bias(self) -> bool: ...
    @property
    def placing(self) -> Placing: ...


class LayerShape(Protocol):
    """What a layer needs of a config."""

    @property
    def width(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def activation(self) -> Activation: ...
    @property
    def norm_epsilon(self) -> float: ...
    @property
    def norm(self) -> NormKind: ...
    @property
    def qkv_bias(self) -> bool: ...
    @property
    def qk_norm(self) -> bool: ...
    @property
    def layer_scale(self) -> float: ...
    @property
    def feedforward(self) -> Feedforward: ...


class PatchEmbeddings(nn.Module):
    """Patches with their places, behind a class token and registers (Darcet et al., 2024), which
    have no place."""

    def __init__(self, config: EmbeddingShape):
        super().__init__()
        self.side, self.patch = config.image_size // config.patch_size, config.patch_size
        self.image_size, self.placing = config.image_size, config.placing
        width, first = config.width, int(config.class_token)
        token = nn.Parameter(torch.randn(width) * width**-0.5) if first else None
        self.class_embedding = token
        self.patch_embedding = nn.Conv2d(3, width, self.patch, self.patch, bias=config.patch_bias)
        self.position_embedding = nn.Embedding(self.side**2 + first, width)
        registers = torch.randn(config.registers, width) * width**-0.5
        self.register_tokens = nn.Parameter(registers) if config.registers else None
        self.mask_token = nn.Parameter(torch.zeros(1, width)) if config.mask_token else None

    def forward(
        self, image: Tensor, filled: Tensor | None = None, masked: Tensor | None = None
    ) -> Tensor:
        """image [B, 3, H, W] -> [B, N, D]: class, registers, patches row by row.

        `filled` [B, h, w] bool: which patches hold any of the picture, from the top left
        (`fractional` placing; None: all). `masked` [B, h * w] bool: patches that are replaced by
        the mask token (Zhou et al., 2022, iBOT). Raises InvalidValue for a picture of a size that
        has no places.
        """
        h = self.patch_embedding(image)
        grid = (h.shape[2], h.shape[3])
        h = h.flatten(2).mT
        if masked is not None:
            if self.mask_token is None:
                raise InvalidValue("This tower has no mask token.", do="Leave `masked` out.")
            h = torch.where(masked[..., None], self.mask_token.to(h.dtype), h)
        if self.class_embedding is not None:
            h = torch.cat([self.class_embedding.expand(len(h), 1, -1), h], dim=1)
        h = h + self._places(image, grid, filled)
        if self.register_tokens is not None:
            registers = self.register_tokens.expand(len(h), -1, -1)
            h = torch.cat([h[:, :1], registers, h[:, 1:]], dim=1)
        return h

    def _places(self, image: Tensor, grid: tuple[int, int], filled: Tensor | None) -> Tensor:
        """[N, D] or [B, N, D]"""
        table = self.position_embedding.weight
        if self.placing == "fractional":
            if filled is None:
                filled = torch.ones(len(image), *grid, dtype=torch.bool, device=image.device)
            return self.position_embedding(fractional_places(filled, self.side))
        if filled is not None:
            raise InvalidValue(
                f"Partly filled pictures have no places here: placing is {self.placing!r}.",
                do="Leave `filled` out.",
            )
        if grid == (self.side, self.side):
            return table
        if self.placing == "fixed":
            height, width = image.shape[2:]
            raise InvalidValue(
                f"A picture of {width} x {height} has no places in this tower.",
                do=f"Make it {self.image_size} x {self.image_size}.",
            )
        first = len(table) - self.side**2
        return torch.cat([table[:first], self._resized(table[first:], grid)])

    def _resized(self, places: Tensor, grid: tuple[int, int]) -> Tensor:
        """[side * side, D] -> [h * w, D], at least in float32: bicubic weights in half precision
        shift what they mix."""
        kind = torch.promote_types(places.dtype, torch.float32)
        square = places.to(kind).mT.unflatten(1, (self.side, self.side))[None]
        antialias = self.placing == "antialias"
        made = interpolate(square, grid, mode="bicubic", antialias=antialias)
        return made[0].flatten(1).mT.to(places.dtype)


def fractional_places(filled: Tensor, side: int) -> Tensor:
    """Which of `side` x `side` places each patch has that begins at the same share of its picture
    (Dehghani et al., 2023, NaViT, section 2.1).

    filled [B, h, w] bool, whole rows and columns from the top left, some in each picture ->
    [B, h * w] int64, 0 where nothing is filled. Whole numbers throughout: no rounding decides.
    """
    rows, columns = filled[:, :, 0].sum(1), filled[:, 0].sum(1)
    down = torch.arange(filled.shape[1], device=filled.device) * side // rows[:, None]
    right = torch.arange(filled.shape[2], device=filled.device) * side // columns[:, None]
    places = down[:, :, None] * side + right[:, None]
    return places.where(filled, 0).flatten(1)


class TowerLayer(nn.Module):
    """A pre-norm transformer block, each half scaled channel by channel where the config says so
    (Touvron et al., 2021, LayerScale)."""

    def __init__(self, config: LayerShape):
        super().__init__()
        width = config.width
        self.layer_norm1 = norm_of(config)
        self.self_attn = ClipAttention(
            width, config.heads, bias=config.qkv_bias, qk_norm=config.qk_norm
        )
        self.layer_norm2 = norm_of(config)
        self.mlp = (
            ClipMLP(width, config.hidden, config.activation)
            if config.feedforward == "plain"
            else SwiGLU(width, config.hidden)
        )
        start = torch.full((width,), config.layer_scale)
        self.layer_scale1 = nn.Parameter(start.clone()) if config.layer_scale else None
        self.layer_scale2 = nn.Parameter(start) if config.layer_scale else None

    def forward(self, h: Tensor, seen: Tensor | None = None) -> Tensor:
        """h [B, N, D], seen [B, 1, 1, N] (None: all) -> [B, N, D]"""
        h = h + _scaled(self.self_attn(self.layer_norm1(h), seen), self.layer_scale1)
        return h + _scaled(self.mlp(self.layer_norm2(h)), self.layer_scale2)


def _scaled(h: Tensor, scale: Tensor | None) -> Tensor:
    return h if scale is None else h * scale


def norm_of(config: LayerShape) -> nn.Module:
    if config.norm == "rms":
        return RMSNorm(config.width, config.norm_epsilon)
    return nn.LayerNorm(config.width, eps=config.norm_epsilon)


class SwiGLU(nn.Module):
    """silu(gate) * up (Shazeer, 2020), with biases."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.down_proj = nn.Linear(hidden, width)

    def forward(self, h: Tensor) -> Tensor:
        """[..., D] -> [..., D]"""
        return self.down_proj(silu(self.gate_proj(h)) * self.up_proj(h))


class MapHead(nn.Module):
    """One trained query looks at all patches (Zhai et al., 2022, multihead attention pooling)."""

    def __init__(self, config: LayerShape):
        super().__init__()
        width = config.width
        self.probe = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
        self.attention = _ProbeAttention(width, config.heads)
        self.layernorm = nn.LayerNorm(width, eps=config.norm_epsilon)
        self.mlp = ClipMLP(width, config.hidden, config.activation, RowLinear)

    def forward(self, h: Tensor, seen: Tensor | None = None) -> Tensor:
        """h [B, N, D], seen [B, 1, 1, N] (None: all) -> [B, D]"""
        pooled = self.attention(self.probe, h, seen)
        return pooled + self.mlp(self.layernorm(pooled))


class _ProbeAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.head_dim = width // heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), RowLinear(width, width)

    def forward(self, probe: Tensor, h: Tensor, seen: Tensor | None) -> Tensor:
        """probe [1, 1, D], h [B, N, D] -> [B, D]"""
        parts = self.q_proj(probe).expand(len(h), -1, -1), self.k_proj(h), self.v_proj(h)
        q, k, v = (split_heads(part, self.head_dim) for part in parts)
        return self.out_proj(join_heads(attend(q, k, v, seen)).squeeze(1))


class DenseHead(nn.Module):
    """The class token through a layer and tanh, as ViT was pre-trained (Dosovitskiy et al., 2021,
    section 3.1)."""

    def __init__(self, width: int):
        super().__init__()
        self.dense = RowLinear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        """[B, N, D] -> [B, D]"""
        return self.dense(h[:, 0]).tanh()
