"""What a sentence about a scene says, as data: the meeting point of captions and the judge."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Group:
    """`count` things alike in what is said of them; None where nothing is said."""

    count: int
    shape: str | None = None
    color: str | None = None
    size: str | None = None
    fill: str | None = None


@dataclass(frozen=True, slots=True)
class Claims:
    """All that a sentence states. `relations` are (group index, relation, group index)."""

    groups: tuple[Group, ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    word: str | None = None
    background: str | None = None
