"""Labelled approximations of a picture, as painters ask for them and people name them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from diptych.foundation.errors import InvalidValue, unknown
from diptych.models.unet import UNet
from diptych.models.unet_reuse import Given, shallow, whole
from diptych.nn.reuse import Approximation, Deep, DeepCache, FirstBlock, FirstBlocks
from diptych.pipelines.painting import Asked

# How each is named on a command line, NAME or NAME:NUMBER.
NAMED: dict[str, Callable[..., Approximation]] = {
    "deepcache": lambda number=3: DeepCache(int(number)),
    "first-block": lambda number=0.1: FirstBlock(number),
}
INT8 = "int8"  # a model's, not a request's


def approximation_named(text: str) -> Approximation:
    """`deepcache`, `deepcache:5`, `first-block:0.05`. Raises NotFound, InvalidValue."""
    name, colon, number = text.partition(":")
    if name not in NAMED:
        raise unknown("approximation", name, [*NAMED, INT8])
    try:
        return NAMED[name](float(number)) if colon else NAMED[name]()
    except ValueError:
        raise InvalidValue(f"{number!r} is no number.", do=f"Write {name}:0.1 or {name}.") from None


def deep_of(one: Asked, reuse: DeepCache | None) -> Hashable:
    """What sets evaluations apart: whether what is kept of the picture is used again."""
    if reuse is None:
        return None
    kept: Deep | None = one.kept.get(one.name)
    return reuse.layers, kept is not None and kept.age + 1 < reuse.every


def said_by_unet(unet: UNet, given: Given, asked: Sequence[Asked], reuse: DeepCache) -> Tensor:
    """[B, C', H, W], of evaluations that are not set apart; what is kept of each is its own."""
    again = deep_of(asked[0], reuse) == (reuse.layers, True)
    if again:
        before: list[Deep] = [one.kept[one.name] for one in asked]
        deep = torch.cat([kept.features for kept in before])
        said = shallow(unet, given, deep, reuse.layers)
        ages = [kept.age + 1 for kept in before]
    else:
        said, deep = whole(unet, given, reuse.layers)
        ages = [0] * len(asked)
    for i, one in enumerate(asked):
        one.kept[one.name] = Deep(deep[i : i + 1], ages[i])
    return said


def of_its_own(told: Any, reuse: FirstBlock | None) -> Hashable:
    """A picture that decides by what was computed of it shares no call: whether the others of a
    call go on would change its kernels, and its bits."""
    return None if reuse is None else id(told)


def said_by_blocks(
    ask: Callable[[FirstBlocks | None], Tensor], asked: Sequence[Asked], reuse: FirstBlock | None
) -> Tensor:
    """What `ask` says with what is kept of each evaluation, which is replaced."""
    if reuse is None:
        return ask(None)
    blocks = FirstBlocks(reuse.threshold, [one.kept.get(one.name) for one in asked])
    said = ask(blocks)
    for one, kept in zip(asked, blocks.kept, strict=True):
        one.kept[one.name] = kept
    return said


def of_kind(approximation: Approximation | None, kind: type | None) -> Any:
    """The approximation, if it is of the kind that a family knows. Raises InvalidValue."""
    if approximation is None or (kind is not None and isinstance(approximation, kind)):
        return approximation
    known = "none" if kind is None else kind.__name__
    raise InvalidValue(
        f"{type(approximation).__name__} is not for this model.", do=f"It knows {known}."
    )


def uncut(reuse: Approximation | None) -> None:
    """Raises InvalidValue for windows of a picture of which something is kept."""
    if reuse is not None:
        raise InvalidValue(
            f"{type(reuse).__name__} keeps a whole picture, not windows.", do="Leave one out."
        )
