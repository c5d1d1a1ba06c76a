"""Other adapters for other rows of one batch.

Nothing of a network is changed: hooks on the layers that adapters know do nothing but while
`applied` says, for its own thread alone, which adapters each row of the batch has. Each row is
then changed by itself, so its bits depend on no neighbour, and a row without adapters keeps what
the layer gave it.

A plain LoRA adds its product of two thin matrices. All else (LoHa, LoKr, whole differences, DoRA,
norms) asks the layer again with the changed weight, as merged, which is made anew at each call:
to keep one a set of adapters would be a copy of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, group_norm, layer_norm, linear

from diptych.adapters.adapter import Place, Weighted, changed, changes_of, module_of
from diptych.adapters.changes import Change, LowRank
from diptych.foundation.errors import InvalidValue
from diptych.nn.blocks import RowLinear, row_linear
from diptych.nn.norms import RMSNorm, bare_norm

Changes = list[tuple[Change, float]]


class _Products(NamedTuple):
    """Plain LoRAs of one layer: down, mid or None, up, and what the product is multiplied by."""

    factors: tuple[tuple[Tensor, Tensor | None, Tensor, float], ...]


class _Whole(NamedTuple):
    """Changes of a layer's weight and bias."""

    leaves: Mapping[str, Changes]


_Way = _Products | _Whole


@dataclass(frozen=True, eq=False)
class RowPlan:
    """How one request changes each layer that its adapters know."""

    ways: Mapping[nn.Module, _Way]


_ACTIVE: ContextVar[tuple[RowPlan | None, ...]] = ContextVar("adapters of rows", default=())
_ATTACHING = Lock()


def planned(networks: Mapping[str, nn.Module], weighted: Weighted) -> RowPlan | None:
    """How adapters change the networks' layers for one request; None if there are none.

    Raises InvalidValue for a place that a network has not, and for a layer that can only be
    changed by merging.
    """
    if not weighted:
        return None
    ways = _ways(networks, weighted)
    for module in ways:
        _attach(module)
    return RowPlan(ways)


@contextmanager
def applied(plans: Sequence[RowPlan | None]) -> Iterator[None]:
    """Within, networks are given batches whose row i has the plan i, None for no adapters.

    Holds for this thread (this context) alone.
    """
    token = _ACTIVE.set(tuple(plans) if any(plans) else ())
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def _attach(module: nn.Module) -> None:
    with _ATTACHING:
        if _hook not in module._forward_hooks.values():
            module.register_forward_hook(_hook)


def _hook(module: nn.Module, seen: tuple[Any, ...], out: Tensor) -> Tensor | None:
    plans = _ACTIVE.get()
    ways = [None if plan is None else plan.ways.get(module) for plan in plans]
    if not any(ways):
        return None
    x: Tensor = seen[0]
    if len(x) != len(ways):
        raise RuntimeError(f"{len(ways)} rows have adapters, and {len(x)} came")
    whole: dict[int, dict[str, Tensor]] = {}
    for at, way in enumerate(ways):
        row, made = x[at : at + 1], out[at : at + 1]
        if isinstance(way, _Products):
            for factors in way.factors:
                made += _product(module, row, *factors)
        elif way is not None:
            if id(way) not in whole:
                whole[id(way)] = _weights(module, way)
            made.copy_(_FORMS[type(module)](module, row, **whole[id(way)]))
    return out


def _ways(networks: Mapping[str, nn.Module], weighted: Weighted) -> dict[nn.Module, _Way]:
    leaves: dict[nn.Module, dict[str, Changes]] = {}
    for place, changes in changes_of(weighted).items():
        module = module_of(networks, place)
        _check(module, place, changes)
        leaves.setdefault(module, {})[place.leaf] = changes
    return {module: _way(module, changes) for module, changes in leaves.items()}


def _check(module: nn.Module, place: Place, changes: Changes) -> None:
    shape = tuple(getattr(module, place.leaf).shape)
    if not all(change.fits(shape) for change, _ in changes):
        raise InvalidValue(
            f"A change of {str(place)!r} does not fit {list(shape)}.", do="Merge what widens it."
        )
    if type(module) not in _FORMS:
        raise InvalidValue(
            f"{str(place)!r} is changed for all rows or none: it is part of a "
            f"{type(module).__name__}.",
            do="Merge this adapter.",
        )


def _way(module: nn.Module, leaves: dict[str, Changes]) -> _Way:
    changes = leaves.get("weight", [])
    plain = isinstance(module, nn.Linear) or (
        isinstance(module, nn.Conv2d) and module.groups == 1 and module.padding_mode == "zeros"
    )
    if not plain or len(leaves) > 1 or not changes:
        return _Whole(leaves)
    factors = []
    for change, weight in changes:
        if not isinstance(change, LowRank):
            return _Whole(leaves)
        factors.append((*_factors(module, change), weight * change.scale))
    return _Products(tuple(factors))


def _factors(module: nn.Module, change: LowRank) -> tuple[Tensor, Tensor | None, Tensor]:
    """As the layer's kind needs them, of its type and on its device."""
    weight: Any = module.weight
    down, mid, up = (
        None if one is None else one.to(weight) for one in (change.down, change.mid, change.up)
    )
    assert down is not None and up is not None
    if isinstance(module, nn.Linear):
        return down.flatten(1), None, up.flatten(1)
    r, kernel = change.rank, weight.shape[1:] if mid is None else (weight.shape[1], 1, 1)
    return down.reshape(r, *kernel), mid, up.reshape(-1, r, 1, 1)


def _product(
    module: nn.Module, x: Tensor, down: Tensor, mid: Tensor | None, up: Tensor, scale: float
) -> Tensor:
    if not isinstance(module, nn.Conv2d):
        return linear(linear(x, down) * scale, up)
    place: Any = (None, module.stride, module.padding, module.dilation)
    if mid is None:
        return conv2d(conv2d(x, down, *place) * scale, up)
    return conv2d(conv2d(conv2d(x, down), mid, *place) * scale, up)


def _weights(module: Any, way: _Whole) -> dict[str, Tensor]:
    with torch.no_grad():
        return {
            leaf: changed(parameter, way.leaves[leaf]) if leaf in way.leaves else parameter
            for leaf in ("weight", "bias")
            if (parameter := getattr(module, leaf, None)) is not None
        }


# A layer asked with other weights than its own, which stay where they are. Tables of words and
# places are not among them: some are read and never called, and a hook would see nothing.
_FORMS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Linear: lambda m, x, weight, bias=None: linear(x, weight, bias),
    RowLinear: lambda m, x, weight, bias=None: row_linear(x, weight, bias),
    nn.Conv2d: lambda m, x, weight, bias=None: m._conv_forward(x, weight, bias),
    nn.LayerNorm: lambda m, x, weight, bias=None: layer_norm(
        x, m.normalized_shape, weight, bias, m.eps
    ),
    nn.GroupNorm: lambda m, x, weight, bias: group_norm(x, m.num_groups, weight, bias, m.eps),
    RMSNorm: lambda m, x, weight: bare_norm(x) * weight.to(x.dtype),
}
