"""Adapters put into the weights, and the very bits that were there put back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pad

from diptych.adapters.adapter import Weighted, changed, changes_of, module_of
from diptych.adapters.changes import Change, LowRank
from diptych.foundation.errors import InvalidValue

# What a module says of the width of its input.
_WIDTHS = ("in_features", "in_channels")


@dataclass(frozen=True, eq=False)
class Merged:
    """What was in place of merged weights, kept until `undo`; `memory` in bytes. Weights that lie
    in a mapped file cost memory only once they are changed."""

    originals: Mapping[tuple[nn.Module, str], nn.Parameter]
    memory: int

    def undo(self) -> None:
        """The originals, in place again."""
        for (module, leaf), parameter in self.originals.items():
            _put(module, leaf, parameter)


def merge(networks: Mapping[str, nn.Module], weighted: Weighted) -> Merged:
    """Change the networks' weights, in place: no thread may be using them.

    A LoRA whose `down` reads more inputs than the layer has widens the layer: the old columns
    stay, the new ones begin at nothing. Raises InvalidValue for an adapter without a place, before
    anything is changed.
    """
    made: dict[tuple[nn.Module, str], nn.Parameter] = {}
    originals: dict[tuple[nn.Module, str], nn.Parameter] = {}
    for place, changes in changes_of(weighted).items():
        module = module_of(networks, place)
        base: nn.Parameter | None = getattr(module, place.leaf)
        assert base is not None
        wide = widened(base, [change for change, _ in changes])
        for change, _ in changes:
            if not change.fits(tuple(wide.shape)):
                raise InvalidValue(f"A change of {str(place)!r} is not {list(wide.shape)}.")
        originals[module, place.leaf] = base
        made[module, place.leaf] = nn.Parameter(changed(wide, changes), requires_grad=False)
    for (module, leaf), parameter in made.items():
        _put(module, leaf, parameter)
    return Merged(originals, sum(p.numel() * p.element_size() for p in originals.values()))


def widened(base: Tensor, changes: list[Change]) -> Tensor:
    """The weight with columns of zeros for inputs that only a change reads."""
    inputs = [c.down.shape[1] for c in changes if isinstance(c, LowRank) and c.mid is None]
    more = max(inputs, default=0) - base.shape[1] if base.ndim > 1 else 0
    return pad(base.detach(), (0, 0) * (base.ndim - 2) + (0, more)) if more > 0 else base


def _put(module: nn.Module, leaf: str, parameter: nn.Parameter) -> None:
    setattr(module, leaf, parameter)
    of_module: Any = module
    for name in _WIDTHS:
        if leaf == "weight" and hasattr(module, name):
            setattr(of_module, name, parameter.shape[1])
