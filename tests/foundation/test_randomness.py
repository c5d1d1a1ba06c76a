"""Mixed integers: the same everywhere, and unrelated for neighbours."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from diptych.foundation.randomness import mix, stream

words = st.integers(0, 2**64 - 1)


def test_neighbours_differ_in_about_half_of_their_bits():
    distances = [
        (mix(seed, index) ^ mix(seed, index + 1)).bit_count()
        for seed, index in product(range(20), range(200))
    ]
    assert 31 < sum(distances) / len(distances) < 33
    assert min(distances) > 8


def test_no_collision_on_a_grid():
    grid = {mix(seed, index) for seed, index in product(range(200), range(200))}
    assert len(grid) == 200 * 200


@given(words, words)
def test_order_and_number_of_parts_matter(a, b):
    assert mix(a) != mix(a, b)
    assert a == b or mix(a, b) != mix(b, a)


def test_streams_are_their_own():
    first = stream(1, 2)
    again = [stream(1, 2).random(), first.random()]
    assert again[0] == again[1]
    assert stream(1, 3).random() != again[0]
