"""A published `config.json` read key by key: each is used, checked against the one value that is
built here, or refused by name; and what headers are counted with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from diptych.foundation.errors import Unreadable


class PublishedConfig:
    """Hands out the values of a config once; `end` refuses what nobody asked for."""

    def __init__(self, content: Mapping[str, Any], what: str):
        self._left, self._what = dict(content), what

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a key, which counts as used."""
        return self._left.pop(key, default)

    def only(self, key: str, *values: Any) -> None:
        """Refuse any other value than these; a key that is not there passes."""
        value = self._left.pop(key, values[0])
        if value not in values:
            raise Unreadable(f"{self._what} with {key} = {value!r} is not built here.")

    def end(self, harmless: frozenset[str] = frozenset()) -> None:
        """Refuse keys that are set and were neither taken nor are `harmless`."""
        for key, value in self._left.items():
            if key not in harmless and not key.startswith("_") and value not in (None, False, ""):
                raise Unreadable(f"{self._what} has {key} = {value!r}, which is not known here.")


def per_level(value: Any, levels: int) -> tuple[Any, ...]:
    """One value for all levels, or a list with one for each."""
    return tuple(value) if isinstance(value, list | tuple) else (value,) * levels


def count_of(names: Iterable[str], prefix: str) -> int:
    """How many numbered parts there are right below a prefix."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return len({match[1] for name in names if (match := pattern.match(name))})
