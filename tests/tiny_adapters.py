"""Drawn changes of every kind for weights of any shape, and adapters of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from diptych.adapters.adapter import Adapter, Place
from diptych.adapters.changes import (
    Change,
    Dora,
    Full,
    Hadamard,
    Kronecker,
    LowRank,
    Value,
)

Draw = Callable[..., Tensor]


def drawing(seed: int, dtype: torch.dtype = torch.float64) -> Draw:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) * 0.3

    return draw


def lora(shape: tuple[int, ...], draw: Draw, rank: int = 3, alpha: float | None = 2) -> LowRank:
    rows, columns, *kernel = shape
    up = draw(rows, rank, *[1] * len(kernel))
    return LowRank(up, draw(rank, columns, *kernel), alpha=alpha)


def locon_tucker(shape: tuple[int, ...], draw: Draw) -> LowRank:
    rows, columns, *kernel = shape
    return LowRank(draw(rows, 3, 1, 1), draw(3, columns, 1, 1), draw(3, 3, *kernel), alpha=1)


def loha(shape: tuple[int, ...], draw: Draw) -> Hadamard:
    rows, columns, *kernel = shape
    width = columns * torch.Size(kernel).numel()
    pairs = [(draw(rows, 4), draw(4, width)) for _ in range(2)]
    return Hadamard(pairs[0], pairs[1], alpha=2)


def loha_tucker(shape: tuple[int, ...], draw: Draw) -> Hadamard:
    rows, columns, *kernel = shape
    pairs = [(draw(4, rows), draw(4, columns)) for _ in range(2)]
    return Hadamard(pairs[0], pairs[1], (draw(4, 4, *kernel), draw(4, 4, *kernel)), alpha=2)


def lokr(shape: tuple[int, ...], draw: Draw) -> Kronecker:
    rows, columns, *kernel = shape
    return Kronecker((draw(2, 4),), (draw(rows // 2, columns // 4, *kernel),), alpha=1e9)


def lokr_products(shape: tuple[int, ...], draw: Draw) -> Kronecker:
    rows, columns, *kernel = shape
    width = columns // 4 * torch.Size(kernel).numel()
    return Kronecker((draw(2, 5), draw(5, 4)), (draw(rows // 2, 3), draw(3, width)), alpha=2)


def full(shape: tuple[int, ...], draw: Draw) -> Full:
    return Full(draw(*shape))


def dora(shape: tuple[int, ...], draw: Draw) -> Dora:
    return Dora(lora(shape, draw), draw(shape[0]).abs() + 0.5)


def dora_columns(shape: tuple[int, ...], draw: Draw) -> Dora:
    return Dora(lora(shape, draw), draw(1, shape[1]).abs() + 0.5, axis=1)


def value(shape: tuple[int, ...], draw: Draw) -> Value:
    return Value(draw(*shape))


KINDS: dict[str, Callable[[tuple[int, ...], Draw], Change]] = {
    "lora": lora, "loha": loha, "lokr": lokr, "lokr of products": lokr_products, "full": full,
    "dora": dora, "dora of columns": dora_columns, "value": value,
}  # fmt: skip
OF_KERNELS: dict[str, Callable[[tuple[int, ...], Draw], Change]] = {
    "locon, Tucker": locon_tucker, "loha, Tucker": loha_tucker
}  # fmt: skip


def tiny_adapter(
    networks: Mapping[str, nn.Module],
    kinds: str | tuple[str, ...] = tuple(KINDS),
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    biases: bool = False,
) -> Adapter:
    """A change of every linear map and convolution, of the kinds in turn; `biases`: also of every
    bias, and of norms."""
    draw, changes, number = drawing(seed, dtype), dict[Place, Change](), 0
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    for component, network in networks.items():
        for path, module in network.named_modules():
            weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
            if isinstance(module, nn.Linear | nn.Conv2d):
                kind = kinds[number % len(kinds)]
                shape, number = tuple(module.weight.shape), number + 1
                if shape[0] % 2 or shape[1] % 4:
                    kind = "lora"
                if kind in OF_KERNELS:
                    make = OF_KERNELS[kind] if len(shape) > 2 else KINDS["lora"]
                else:
                    make = KINDS[kind]
                changes[Place(component, path)] = make(shape, draw)
            elif biases and weight is not None and not isinstance(module, nn.Embedding):
                changes[Place(component, path)] = Full(draw(*weight.shape))
            if biases and bias is not None:
                changes[Place(component, path, "bias")] = Full(draw(*bias.shape))
    return Adapter(f"tiny {seed}", changes)
