"""Batches prepared ahead of the step that needs them, always in the order of their indices."""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset


class _Indexed(Dataset[Any]):
    def __init__(self, batch_at: Callable[[int], Any]):
        self.batch_at = batch_at

    def __getitem__(self, index: int) -> Any:
        return self.batch_at(index)


def batches(
    batch_at: Callable[[int], Any], indices: range, *, workers: int, pin_memory: bool = False
) -> Iterator[Any]:
    """`batch_at` of each index in turn, made by `workers` processes (0: by this one)."""
    options: dict[str, Any] = {}
    if workers:
        # A forked worker shares a data set in memory with the training instead of copying it.
        offered = multiprocessing.get_all_start_methods()
        options["multiprocessing_context"] = "fork" if "fork" in offered else None
        options["prefetch_factor"] = 4
        options["worker_init_fn"] = _leave_interrupts_alone
    loader = DataLoader(
        _Indexed(batch_at),
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        **options,
    )
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads; torch's workers use none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        return iter(loader)


def _as_it_is(batch: Any) -> Any:
    return batch


def _leave_interrupts_alone(_: int) -> None:
    # Ctrl-C reaches the whole process group; the training still needs batches to end its step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
