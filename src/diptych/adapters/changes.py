"""What an adapter does to one weight, each kind in its factors as files have them.

`delta` gives what is added, of a wanted shape, computed in `kind`: float32 or finer, whatever the
factors are stored in. `added` is that for a given weight, on which some kinds depend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass, replace
from math import prod, sqrt
from typing import Any, Protocol

import torch
from torch import Tensor

Shape = tuple[int, ...]


class Change(Protocol):
    """What all kinds have."""

    @property
    def rank(self) -> int:
        """Of the factors, 0 where there are none."""
        ...

    def fits(self, shape: Shape) -> bool:
        """Whether a weight of this shape can be changed so."""
        ...

    def added(self, base: Tensor) -> Tensor:
        """What makes `base` the changed weight, by its shape and at least in float32."""
        ...


class Fixed(ABC):
    """Kinds that do not look at the weight they change."""

    rank = 0

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """Rows, and all else of the weight, whose kernel may be flattened."""

    @abstractmethod
    def delta(self, shape: Shape, kind: torch.dtype = torch.float32) -> Tensor:
        """What is added to a weight of this shape."""

    def fits(self, shape: Shape) -> bool:
        return prod(self.shape) == prod(shape) and self.shape[0] == shape[0]

    def added(self, base: Tensor) -> Tensor:
        kind = torch.promote_types(base.dtype, torch.float32)
        return self.delta(tuple(base.shape), kind).to(base.device)


@dataclass(frozen=True, eq=False)
class LowRank(Fixed):
    """scale * up * down (LoRA; Hu et al., 2022).

    up [O, r], down [r, I] or, of a convolution, [r, I, kh, kw]; with `mid` [r, r, kh, kw] both
    are 1x1 (LoCon's Tucker form; Yeh et al., 2024). Ones at the end of a shape say nothing.
    `alpha` None is `alpha` = r. `stabilized`: scale is alpha / sqrt(r) (Kalajdzievski, 2023).
    """

    up: Tensor
    down: Tensor
    mid: Tensor | None = None
    alpha: float | None = None
    stabilized: bool = False

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        return scale_of(self.alpha, self.rank, stabilized=self.stabilized)

    @property
    def shape(self) -> Shape:
        kernel = self.down.shape[2:] if self.mid is None else self.mid.shape[2:]
        return self.up.shape[0], self.down.shape[1], *kernel

    def delta(self, shape: Shape, kind: torch.dtype = torch.float32) -> Tensor:
        up, down = self.up.to(kind).flatten(1), self.down.to(kind).flatten(1)
        if self.mid is None:
            whole = up @ down
        else:
            whole = torch.einsum("oa,abkl,bi->oikl", up, self.mid.to(kind), down)
        return (self.scale * whole).reshape(shape)


@dataclass(frozen=True, eq=False)
class Hadamard(Fixed):
    """scale * (a1 b1) o (a2 b2), element by element (LoHa; Hyeon-Woo et al., 2022).

    a [O, r], b [r, I * kh * kw]; with cores [r, r, kh, kw] a is [r, O] and b [r, I]: Tucker.
    """

    first: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]
    cores: tuple[Tensor, Tensor] | None = None
    alpha: float | None = None

    @property
    def rank(self) -> int:
        return self.first[1].shape[0]

    @property
    def shape(self) -> Shape:
        a, b = self.first
        if self.cores is None:
            return a.shape[0], b.shape[1]
        return a.shape[1], b.shape[1], *self.cores[0].shape[2:]

    def delta(self, shape: Shape, kind: torch.dtype = torch.float32) -> Tensor:
        cores = self.cores or (None, None)
        one, other = (
            _product(*pair, core, kind)
            for pair, core in zip((self.first, self.second), cores, strict=True)
        )
        return (scale_of(self.alpha, self.rank) * one * other).reshape(shape)


@dataclass(frozen=True, eq=False)
class Kronecker(Fixed):
    """scale * kron(left, right) (LoKr; Yeh et al., 2024).

    Each factor is whole, (w,), or a product, (a, b), or one with a core, (a, b, core) as in
    `Hadamard`. The rank is the right one's, else the left's; of whole factors there is none, and
    `alpha` says nothing, but in PEFT, which divides it by the rank that was `asked` for.
    """

    left: tuple[Tensor, ...]
    right: tuple[Tensor, ...]
    alpha: float | None = None
    asked: int = 0

    @property
    def rank(self) -> int:
        return next((side[1].shape[0] for side in (self.right, self.left) if len(side) > 1), 0)

    @property
    def shape(self) -> Shape:
        (rows, columns, *_), (more_rows, more_columns, *kernel) = (
            _factor_shape(side) for side in (self.left, self.right)
        )
        return rows * more_rows, columns * more_columns, *kernel

    def delta(self, shape: Shape, kind: torch.dtype = torch.float32) -> Tensor:
        left, right = (_factor(side, kind) for side in (self.left, self.right))
        left = left.reshape(*left.shape, *[1] * (right.ndim - left.ndim))
        rank = self.asked or self.rank
        scale = scale_of(self.alpha, rank) if rank else 1.0
        return (scale * torch.kron(left.contiguous(), right.contiguous())).reshape(shape)


@dataclass(frozen=True, eq=False)
class Full(Fixed):
    """The whole difference, times `scale`; of a weight or of a bias."""

    diff: Tensor
    scale: float = 1.0

    @property
    def shape(self) -> Shape:
        return tuple(self.diff.shape)

    def delta(self, shape: Shape, kind: torch.dtype = torch.float32) -> Tensor:
        return self.scale * self.diff.to(kind).reshape(shape)


@dataclass(frozen=True, eq=False)
class Dora:
    """W' = magnitude * (W + change) / |W + change| (DoRA; Liu et al., 2024).

    The norm is over all axes but `axis`: 0, the rows, in the paper and PEFT; 1, the columns, in
    some exports of LyCORIS. `magnitude` has a number for each place on that axis.
    """

    change: Fixed
    magnitude: Tensor
    axis: int = 0

    @property
    def rank(self) -> int:
        return self.change.rank

    def fits(self, shape: Shape) -> bool:
        return self.change.fits(shape) and self.magnitude.numel() == shape[self.axis]

    def added(self, base: Tensor) -> Tensor:
        moved = base + self.change.added(base)
        others = [axis for axis in range(base.ndim) if axis != self.axis]
        norm = torch.linalg.vector_norm(moved, dim=others, keepdim=True)
        magnitude = self.magnitude.to(moved).reshape(norm.shape)
        # Where there is no direction, there is nothing to scale.
        return moved * torch.where(norm > 0, magnitude / norm, 1) - base


@dataclass(frozen=True, eq=False)
class Value:
    """Another value in the place of the old one, as the norms of BFL's control LoRAs."""

    value: Tensor
    rank = 0

    def fits(self, shape: Shape) -> bool:
        return self.value.numel() == prod(shape)

    def added(self, base: Tensor) -> Tensor:
        kind = torch.promote_types(base.dtype, torch.float32)
        return self.value.to(base.device, kind).reshape(base.shape) - base


def scale_of(alpha: float | None, rank: int, *, stabilized: bool = False) -> float:
    """What the product of the factors is multiplied by; without `alpha` it is the rank's."""
    alpha = rank if alpha is None else alpha
    return alpha / (sqrt(rank) if stabilized else rank)


def moved(part: Any, device: torch.device) -> Any:
    """A change, or any part of one, with its tensors on a device."""
    if isinstance(part, Tensor):
        return part.to(device)
    if isinstance(part, tuple):
        return tuple(moved(one, device) for one in part)
    if is_dataclass(part) and not isinstance(part, type):
        each = {field.name: getattr(part, field.name) for field in fields(part)}
        return replace(part, **{name: moved(one, device) for name, one in each.items()})
    return part


def _product(a: Tensor, b: Tensor, core: Tensor | None, kind: torch.dtype) -> Tensor:
    """a [O, r] b [r, I] -> [O, I]; with a core [r, r, kh, kw], a [r, O], b [r, I] -> [O, I, ...]"""
    if core is None:
        return a.to(kind).flatten(1) @ b.to(kind).flatten(1)
    return torch.einsum("abkl,ao,bi->oikl", core.to(kind), a.to(kind), b.to(kind))


def _factor(side: tuple[Tensor, ...], kind: torch.dtype) -> Tensor:
    if len(side) == 1:
        return side[0].to(kind)
    a, b, *core = side
    return _product(a, b, core[0] if core else None, kind)


def _factor_shape(side: tuple[Tensor, ...]) -> Shape:
    if len(side) == 1:
        return tuple(side[0].shape)
    a, b, *core = side
    if core:
        return a.shape[1], b.shape[1], *core[0].shape[2:]
    return a.shape[0], prod(b.shape[1:])
