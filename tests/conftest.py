"""Which of the long proofs run: all, none (`-m 'not slow'`), or a tenth chosen by the commit."""

from __future__ import annotations

import os
import zlib

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    commit = os.environ.get("DIPTYCH_SLOW_TENTH", "")
    if not commit:
        return
    left_out = [
        item for item in items if item.get_closest_marker("slow") and not _in_tenth(item, commit)
    ]
    kept = set(items) - set(left_out)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item in kept]


def _in_tenth(item: pytest.Item, commit: str) -> bool:
    """A tenth of all tests for each commit; over commits, each test equally often."""
    return zlib.crc32(f"{commit} {item.nodeid}".encode()) % 10 == 0
