"""How long work tells where it is. Work reports, `cli` and `service` draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` units (0 when unknown) and a short note such as `loss 0.12`."""

    done: int
    total: int
    note: str = ""


Report = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """The reporter for callers who do not want to know."""
