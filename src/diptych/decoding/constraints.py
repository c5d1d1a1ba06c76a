"""What may follow: a constraint gives a state, a state the tokens that are allowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from diptych.foundation.errors import InvalidValue


class State(Protocol):
    """Where in its constraint an answer is. A value: `after` gives another."""

    def allowed(self, size: int) -> Tensor:
        """[size] bool: the tokens that may follow, ends among them."""
        ...

    def after(self, token: int) -> State:
        """Where it is once the token is said."""
        ...


class Constraint(Protocol):
    """A rule for answers; many requests may share one."""

    def start(self) -> State:
        """Before the first token."""
        ...


Trie = dict[int, "Trie"]


@dataclass(frozen=True)
class Choice:
    """One of given answers, as token sequences; each ends by one of `ends`.
    Raises InvalidValue for none, and for an empty one."""

    answers: tuple[tuple[int, ...], ...]
    ends: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.answers or () in self.answers:
            raise InvalidValue("A choice wants answers, and none that is empty.")

    def start(self) -> State:
        """Before the first token."""
        return _Place(self._trie, self.ends)

    @cached_property
    def _trie(self) -> Trie:
        return trie_of((*answer, self.ends[0]) for answer in self.answers)


def trie_of(sequences: Iterable[Sequence[int]]) -> Trie:
    """Sequences as a tree of tokens; a leaf is empty."""
    root: Trie = {}
    for sequence in sequences:
        node = root
        for token in sequence:
            node = node.setdefault(token, {})
    return root


@dataclass(frozen=True)
class _Place:
    node: Trie
    ends: tuple[int, ...]

    def allowed(self, size: int) -> Tensor:
        """As `State`."""
        mask = torch.zeros(size, dtype=torch.bool)
        following = list(self.node)
        if self.ends[0] in self.node:
            following.extend(self.ends)
        mask[following] = True
        return mask

    def after(self, token: int) -> State:
        """As `State`."""
        return _Place(self.node.get(self.ends[0] if token in self.ends else token, {}), self.ends)
