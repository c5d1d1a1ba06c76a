"""What an objective returns: one scalar to go down, and its parts for the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """`total` [] with a gradient; `parts`: detached scalars [] by name, only for the log."""

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
