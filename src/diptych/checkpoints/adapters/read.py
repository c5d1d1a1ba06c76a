"""A file of an adapter to what it does to the networks at hand, every tensor accounted for.

The account is made of names and shapes: changes are built without memory first and tried on the
shapes of their weights. Tensors are read when nothing is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.adapters.adapter import Adapter, Place
from diptych.adapters.changes import Change
from diptych.checkpoints.account import LoadReport, Problem
from diptych.checkpoints.adapters.endings import (
    ALPHA,
    Target,
    is_adapter,
    targets_of,
    unbuilt,
)
from diptych.checkpoints.adapters.kinds import Kind, Said, judged
from diptych.checkpoints.adapters.names import Names, dialect_of, names_of
from diptych.checkpoints.adapters.placing import Placed, ours, place_of
from diptych.checkpoints.adapters.said import Beside, beside, weights_of
from diptych.checkpoints.families.sd_unet import family_of
from diptych.checkpoints.fill import read_tensors
from diptych.checkpoints.header import Header, header_of, metadata_of
from diptych.checkpoints.rules import nearest
from diptych.foundation.errors import InvalidValue, Unreadable
from diptych.models.unet import UNetConfig

# For so many names the nearest is looked up, among as many that begin or end alike.
_LOOKED_UP, _NEAR = 5, 40
_VALUE = "value"


@dataclass(frozen=True, kw_only=True)
class AdapterReport(LoadReport):
    """What became of an adapter's file: `applied` of `total` tensors have a place. `kinds`: how
    many layers are changed how; `targets`: of which component; `ranks` that occur."""

    kinds: Mapping[str, int] = field(default_factory=dict)
    targets: Mapping[str, int] = field(default_factory=dict)
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True)
class FoundAdapter:
    """An adapter before any tensor is read."""

    name: str
    header: Header = field(repr=False)
    placed: tuple[Placed, ...] = field(repr=False)
    beside: Beside = field(repr=False)
    shapes: Mapping[Place, tuple[int, ...]] = field(repr=False)
    report: AdapterReport


def found_adapter(
    path: Path,
    networks: Mapping[str, nn.Module] | None = None,
    *,
    name: str = "",
    allow: Sequence[str] = (),
) -> FoundAdapter:
    """The account of a file, or of a folder as PEFT writes it. `networks`: components by the names
    of `names.PREFIXES`; None tells what can be told without, and places nothing.

    Raises NotFound, Unreadable for what is no adapter or of a kind that is not built; problems
    stand in the report, whose `check` raises them. `allow`: names of problems that are accepted:
    what they name is left out.
    """
    path = weights_of(path)
    header = header_of(path)
    if not is_adapter(header):
        some = ", ".join(sorted(header)[:3])
        raise Unreadable(f"{str(path)!r} is no adapter: {some}, ...", do="Is it a whole model?")
    if kind := unbuilt(header):
        raise Unreadable(f"{str(path)!r} holds {kind}, which is not built here.")
    said = beside(path, metadata_of(path))
    account = _Account(header, said, networks)
    check_allowed(allow, account.problems)
    report = replace(account.report(), allowed=tuple(allow))
    return FoundAdapter(
        name or path.stem, header, tuple(account.placed), said, account.shapes, report
    )


def load_adapter(found: FoundAdapter) -> Adapter:
    """The adapter, its tensors as the file has them. Raises Unreadable for problems and for
    tensors that are not finite."""
    found.report.check()
    names = [name for one in found.placed for name in one.target.tensors.values()]
    tensors = read_tensors(found.header, names)
    made: dict[Place, Change] = {}
    for one in found.placed:
        parts = {part: tensors[name] for part, name in one.target.tensors.items()}
        for place, change in ours(one, parts, found.beside, found.shapes):
            made[place] = change
    return Adapter(found.name, made)


class _Account:
    """Goes over all targets of a header once."""

    def __init__(self, header: Header, said: Beside, networks: Mapping[str, nn.Module] | None):
        self.header, self.said, self.networks = header, said, networks
        self.names = names_of(networks) if networks is not None else Names()
        self.shapes: dict[Place, tuple[int, ...]] = {}
        for component, network in (networks or {}).items():
            for path, parameter in network.named_parameters():
                module, _, leaf = path.rpartition(".")
                self.shapes[Place(component, module, leaf)] = tuple(parameter.shape)
        self.placed: list[Placed] = []
        self.problems: list[Problem] = []
        self.kinds: dict[str, int] = {}
        self.ranks: set[int] = set()
        self.components: dict[str, int] = {}
        self.dialects: set[str] = set()
        self.taken: dict[Place, str] = {}
        self.looked_up = 0
        targets, left = targets_of(header)
        for target in targets.values():
            self._target(target)
        for name in left:
            self._single(name)

    def _target(self, target: Target) -> None:
        kind, missing, unused = judged(target.tensors)
        for part in missing:
            name = target.missing(part)
            self._problem("missing", name, f"{name!r} is missing")
        for part in unused:
            name = target.tensors[part]
            self._problem("unused", name, f"{name!r} has nothing that it belongs to")
        if missing or unused:
            return
        if self.networks is None:
            self.dialects.add(dialect_of(target.name))
            self._count(kind, {part: self._meta(name) for part, name in target.tensors.items()})
            return
        spot = self.names.layers.get(target.name)
        if target.name in self.names.twice:
            which = " and ".join(self.names.twice[target.name])
            self._problem("unused", target.name, f"{target.name!r} is a layer of {which}")
        elif spot is None:
            near = self._near(target.name, self.names.layers)
            self._problem("unused", target.name, f"{target.name!r} has no place{near}")
        else:
            self._place(Placed(target, spot, kind))

    def _single(self, name: str) -> None:
        """A tensor that is a parameter's new value, by that parameter's own name."""
        spot = self.names.parameters.get(name)
        if spot is None or len(self.header[name].shape) != 1 or name in self.names.twice:
            near = self._near(name, [*self.names.parameters, *self.names.layers])
            self._problem("unused", name, f"{name!r} has no place{near}")
        else:
            self._place(Placed(Target(name, {_VALUE: name}, frozenset()), spot, None))

    def _place(self, one: Placed) -> None:
        parts = {part: self._meta(name) for part, name in one.target.tensors.items()}
        try:
            found = ours(one, parts, self.said, self.shapes)
        except (RuntimeError, LookupError) as error:
            shapes = ", ".join(str(list(part.shape)) for part in parts.values())
            wanted = [list(self.shapes[place_of(one.spot, take)]) for take in one.spot.takes]
            said = f"{one.target.name!r} with {shapes} does not fit {wanted[0]}"
            if not isinstance(error, RuntimeError):
                said = f"{one.target.name!r} {error.args[0]}"
            self._problem("misshaped", one.target.name, said)
            return
        for place, _ in found:
            if place in self.taken:
                said = f"{one.target.name!r} is in place already, as {self.taken[place]!r}"
                self._problem("unused", one.target.name, said)
                return
        self.taken |= {place: one.target.name for place, _ in found}
        self.placed.append(one)
        self.dialects.add(one.spot.dialect)
        component = one.spot.component
        self.components[component] = self.components.get(component, 0) + 1
        self._count(one.kind, parts)

    def _count(self, kind: Kind | None, parts: Mapping[str, Tensor]) -> None:
        name = "values" if kind is None else kind.name
        if kind is not None and {"magnitude", "dora_scale"} & set(parts):
            name = "DoRA" if kind.name == "LoRA" else f"DoRA of {kind.name}"
        self.kinds[name] = self.kinds.get(name, 0) + 1
        if kind is not None and (rank := kind.build(parts, Said()).rank):
            self.ranks.add(rank)

    def _meta(self, name: str) -> Tensor:
        return torch.empty(self.header[name].shape, device="meta")

    def _problem(self, kind: str, name: str, said: str) -> None:
        self.problems.append(Problem(kind, name, said))

    def _near(self, name: str, known: Iterable[str]) -> str:
        self.looked_up += 1
        return near(name, known) if self.looked_up <= _LOOKED_UP else ""

    def report(self) -> AdapterReport:
        """What was found."""
        sizes = {name: torch.Size(one.shape).numel() for name, one in self.header.items()}
        applied = sum(len(one.target.tensors) for one in self.placed)
        assumed = {"made for": self.said.made_for} if self.said.made_for else {}
        low = [one for one in self.placed if one.kind is not None and one.kind.name != "full"]
        if low and not self.said.configs and not any(ALPHA in o.target.tensors for o in low):
            assumed["alpha"] = "each layer's rank (not in the file)"
        return AdapterReport(
            component="adapter",
            family=_family(self.networks),
            layout=", ".join(sorted(self.dialects)) or "unknown names",
            parameters=sum(sizes.values()),
            dtypes=tuple(sorted({one.dtype for one in self.header.values()})),
            applied=applied,
            total=len(self.header),
            assumed=assumed,
            problems=tuple(self.problems),
            kinds=self.kinds,
            targets=self.components,
            ranks=tuple(sorted(self.ranks)),
        )


def near(name: str, known: Iterable[str]) -> str:
    """`, nearest: ...` or nothing; looked for among those that begin or end alike, for a book
    holds ten thousands."""
    names = list(known)
    alike = nlargest(_NEAR, names, key=lambda other: _alike(other, name))
    back = name[::-1]
    alike += nlargest(_NEAR, names, key=lambda other: _alike(other[::-1], back))
    return nearest(name, dict.fromkeys(alike))


def _alike(one: str, other: str) -> int:
    """How many letters they begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _family(networks: Mapping[str, nn.Module] | None) -> str:
    config: Any = getattr((networks or {}).get("unet"), "config", None)
    return family_of(config) if isinstance(config, UNetConfig) else "any"


def check_allowed(allow: Sequence[str], problems: Sequence[Problem]) -> None:
    """Raises InvalidValue for a name that nothing is wrong with."""
    known = [problem.name for problem in problems]
    for name in allow:
        if name not in known:
            what = f"allow names {name!r}, and nothing is wrong with that{nearest(name, known)}."
            raise InvalidValue(what, do="Leave it out.")
