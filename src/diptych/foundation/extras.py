"""Libraries that only some uses need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from diptych.foundation.errors import MissingExtra


def need(module: str, extra: str) -> ModuleType:
    """Import a library of an optional extra; raises MissingExtra that says how to get it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # the library is there and lacks something of its own
        raise MissingExtra(
            f"This needs {module!r}, which is not installed.",
            do=f"Run `pip install 'diptych[{extra}]'`.",
        ) from error
