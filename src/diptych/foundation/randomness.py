"""Integers mixed into seeds. Every random thing in the package starts from a call of `mix`."""

from __future__ import annotations

from random import Random

_MASK = (1 << 64) - 1


def mix(*parts: int) -> int:
    """Any integers -> one well-spread integer in 0..2**64-1.

    SplitMix64's finalizer (Steele, Lea and Flood, 2014) over the parts in turn, so that
    (seed, index) pairs that differ in one bit give unrelated streams.
    """
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state ^ (part & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


def stream(*parts: int) -> Random:
    """A generator of its own for these integers."""
    return Random(mix(*parts))
