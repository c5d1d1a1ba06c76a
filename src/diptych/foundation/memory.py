"""How memory is managed: what is freed is kept, and what stays is not looked through."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Generator
from contextlib import contextmanager

# glibc's malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_KEPT = 2**31 - 1


def keep_freed_memory() -> None:
    """Make glibc reuse large blocks (elsewhere: nothing).

    By default large tensors are mapped and unmapped anew, and the kernel has to find and clear
    their pages each time. On a virtual machine that cost little while memory was at hand (1.2 s
    of CPU a step of `scenes-t2i` either way) and at other times most of the step: single steps
    took 10 to 16 s, with kept memory never more than 2.4 s. See `benchmarks/kept_memory.py`.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return
    for option, value in ((_MMAP_THRESHOLD, _KEPT), (_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, 2**28)):
        mallopt(option, value)


@contextmanager
def uncollected() -> Generator[None]:
    """The collector of cycles rests where many things are made that stay: modules at the start,
    the words of a tokenizer. Looking through them again and again was a seventh of a start."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
