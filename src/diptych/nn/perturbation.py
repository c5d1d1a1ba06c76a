"""A network made worse for chosen rows, to be guided away from (`diffusion.guidance.perturbed`).
Hooks on plain modules, gone when the block ends, by an error too; other rows keep their bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Attention(Protocol):
    """`qkv` gives query, key and value side by side [B, N, 3 D], `out` takes what was seen."""

    qkv: nn.Linear
    out: nn.Linear


@contextmanager
def skipped(layers: Sequence[nn.Module], rows: Tensor) -> Iterator[None]:
    """Rows [B] bool leave each layer as they came (skip-layer guidance): what it gives back is its
    first input, or as many inputs as it has outputs."""

    def skip(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any], out: Any) -> Any:
        outs, came = out if isinstance(out, tuple) else (out,), [*given, *named.values()]
        mixed = [_mixed(rows, *pair) for pair in zip(came[: len(outs)], outs, strict=True)]
        return tuple(mixed) if isinstance(out, tuple) else mixed[0]

    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(layer.register_forward_hook(skip, with_kwargs=True))
        yield


@contextmanager
def identity_attention(layers: Sequence[Attention], rows: Tensor) -> Iterator[None]:
    """Each token of rows [B] bool sees itself alone, out(value): PAG (Ahn et al., 2024)."""
    source: dict[nn.Module, nn.Module] = {layer.out: layer.qkv for layer in layers}
    made: dict[nn.Module, Tensor] = {}

    def keep(qkv: nn.Module, _: Any, out: Tensor) -> None:
        made[qkv] = out.chunk(3, dim=-1)[2]

    def show(out: nn.Module, seen: tuple[Tensor, ...]) -> Tensor:
        return _mixed(rows, made[source[out]], seen[0])

    with ExitStack() as hooks:
        for out, qkv in source.items():
            hooks.enter_context(qkv.register_forward_hook(keep))
            hooks.enter_context(out.register_forward_pre_hook(show))
        yield


def _mixed(rows: Tensor, masked: Tensor, other: Tensor) -> Tensor:
    chosen = rows.view(len(other), *[1] * (other.ndim - 1))
    return torch.where(chosen, masked.view_as(other).to(other.dtype), other)
