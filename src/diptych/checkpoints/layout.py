"""What a layout is: how a component is known by names and shapes, and what differs from ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from diptych.checkpoints.header import Header
from diptych.checkpoints.rules import Rule
from diptych.foundation.errors import Unreadable

Known = tuple[Any, dict[str, str]]  # a config, and what was assumed for it


def _of_any(config: Any) -> str:
    return "any"


def _none_made(config: Any) -> dict[str, Tensor]:
    return {}


def _as_told(config: Any, header: Header) -> Any:
    return config


@dataclass(frozen=True)
class Kind:
    """A component: its network, its config from a folder's config.json, and the family that a
    config tells, if it does."""

    build: Callable[[Any], nn.Module]
    of_json: Callable[[Mapping[str, Any]], Any]
    family: Callable[[Any], str] = _of_any


@dataclass(frozen=True)
class Layout:
    """`marks`: names without which a header is not in this layout. `prefixes`: where the component
    may begin in a file. `config`: from names and shapes below the prefix, `rules`: for it.
    `kind`: a name of `KINDS` where it is not the component's: families call different networks
    alike. `made`: what it stores and our networks make anew, so that others can read it.
    `settled`: a config that a config.json told, with what only the tensors tell."""

    name: str
    component: str
    marks: tuple[str, ...]
    prefixes: tuple[str, ...]
    config: Callable[[Header], Known]
    rules: Callable[[Any], Sequence[Rule]]
    ignorable: tuple[str, ...] = ()
    kind: str = ""
    made: Callable[[Any], dict[str, Tensor]] = _none_made
    settled: Callable[[Any, Header], Any] = _as_told


@dataclass(frozen=True)
class Part:
    """A component found in a file or folder: `header` of its tensors, which begin with `prefix`."""

    component: str
    layout: Layout
    prefix: str
    header: Header = field(repr=False)
    config: Any
    assumed: dict[str, str]


def no_rules(config: Any) -> list[Rule]:
    """The published folder's names are ours."""
    return []


def by_json(header: Header) -> Known:
    """For components whose shapes do not tell their config. Raises Unreadable."""
    raise Unreadable(
        "A component's own file does not say all of its config.",
        do="Name the folder that holds its config.json.",
    )
