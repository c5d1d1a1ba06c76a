"""Each kind of change against its formula, written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import conv2d

from diptych.adapters.changes import (
    Dora,
    Full,
    Hadamard,
    Kronecker,
    LowRank,
    Value,
)
from diptych.adapters.fused import rows_of, stacked
from tests.tiny_adapters import KINDS, OF_KERNELS, drawing

SHAPES = [(6, 8), (6, 8, 1, 1), (6, 8, 3, 3)]


def same(ours: Tensor, wanted: Tensor | np.ndarray) -> bool:
    wanted = torch.as_tensor(wanted)
    return ours.shape == wanted.shape and float((ours - wanted).abs().max()) < 1e-12


@pytest.mark.parametrize("alpha", [None, 1.0, 6.0])
@pytest.mark.parametrize("stabilized", [False, True])
def test_lora(alpha: float | None, stabilized: bool):
    draw = drawing(1)
    up, down = draw(6, 4), draw(4, 8)
    scale = (4 if alpha is None else alpha) / (2 if stabilized else 4)
    change = LowRank(up, down, alpha=alpha, stabilized=stabilized)
    assert same(change.delta((6, 8), torch.float64), scale * up.numpy() @ down.numpy())


def test_without_alpha_it_is_the_rank_of_each_layer():
    draw = drawing(1)
    for rank in (1, 3, 8):
        up, down = draw(6, rank), draw(rank, 8)
        assert same(LowRank(up, down).delta((6, 8), torch.float64), up @ down)


def test_locon_is_two_convolutions_and_its_tucker_form_three():
    draw = drawing(2)
    x = draw(2, 8, 5, 7)
    up, down = draw(6, 3, 1, 1), draw(3, 8, 3, 3)
    delta = LowRank(up, down).delta((6, 8, 3, 3), torch.float64)
    assert same(conv2d(x, delta, padding=1), conv2d(conv2d(x, down, padding=1), up))
    down, mid = draw(3, 8, 1, 1), draw(3, 3, 3, 3)
    delta = LowRank(up, down, mid, alpha=6).delta((6, 8, 3, 3), torch.float64)
    by_hand = 2 * conv2d(conv2d(conv2d(x, down), mid, padding=1), up)
    assert same(conv2d(x, delta, padding=1), by_hand)


@pytest.mark.parametrize("shape", SHAPES)
def test_loha(shape: tuple[int, ...]):
    draw, width = drawing(3), int(np.prod(shape[1:]))
    a, b, c, d = draw(6, 4), draw(4, width), draw(6, 4), draw(4, width)
    by_hand = 2 / 4 * (a.numpy() @ b.numpy()) * (c.numpy() @ d.numpy())
    change = Hadamard((a, b), (c, d), alpha=2)
    assert same(change.delta(shape, torch.float64), by_hand.reshape(shape))


def test_loha_tucker():
    draw = drawing(4)
    a, b, c, d = draw(4, 6), draw(4, 8), draw(4, 6), draw(4, 8)
    cores = draw(4, 4, 3, 3), draw(4, 4, 3, 3)
    by_hand = np.empty((6, 8, 3, 3))
    for k in range(3):
        for m in range(3):
            one, other = (core[:, :, k, m].numpy() for core in cores)
            first = a.numpy().T @ one @ b.numpy()
            by_hand[:, :, k, m] = first * (c.numpy().T @ other @ d.numpy())
    change = Hadamard((a, b), (c, d), cores)
    assert same(change.delta((6, 8, 3, 3), torch.float64), by_hand)


def test_lokr_of_whole_factors_has_no_alpha():
    draw = drawing(5)
    a, b = draw(2, 4), draw(3, 2)
    change = Kronecker((a,), (b,), alpha=123)
    assert change.rank == 0
    assert same(change.delta((6, 8), torch.float64), np.kron(a.numpy(), b.numpy()))


@pytest.mark.parametrize("left", ["whole", "product"])
@pytest.mark.parametrize("right", ["whole", "product", "core"])
def test_lokr(left: str, right: str):
    """The rank is the right factor's where it is a product, else the left's."""
    draw = drawing(6)
    a = (draw(2, 4),) if left == "whole" else (draw(2, 5), draw(5, 4))
    b: tuple[Tensor, ...] = (draw(3, 2, 3, 3),)
    if right == "product":
        b = draw(3, 2), draw(2, 2 * 9)
    elif right == "core":
        b = draw(2, 3), draw(2, 2), draw(2, 2, 3, 3)
    one = a[0] if left == "whole" else a[0] @ a[1]
    other = b[0] if right == "whole" else (b[0] @ b[1]).reshape(3, 2, 3, 3) if len(b) == 2 else None
    if other is None:
        other = torch.einsum("xo,yi,xykl->oikl", *b)
    rank = 2 if right != "whole" else 5 if left == "product" else None
    by_hand = torch.stack(
        [torch.kron(one, other[:, :, k, m]) for k in range(3) for m in range(3)], -1
    )
    by_hand = by_hand.reshape(6, 8, 3, 3) * (7 / rank if rank else 1)
    change = Kronecker(a, b, alpha=7)
    assert change.rank == (rank or 0) and change.fits((6, 8, 3, 3))
    assert same(change.delta((6, 8, 3, 3), torch.float64), by_hand)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axis", [0, 1])
def test_dora_has_the_length_that_it_says(shape: tuple[int, ...], axis: int):
    draw = drawing(7)
    base, diff, magnitude = draw(*shape), draw(*shape), draw(shape[axis]).abs() + 0.1
    new = base + Dora(Full(diff), magnitude, axis).added(base)
    others = [other for other in range(len(shape)) if other != axis]
    assert same(new.pow(2).sum(others).sqrt(), magnitude)
    # And the direction of the sum.
    along = new / (base + diff)
    assert float(along.std(dim=others).max()) < 1e-12


def test_dora_of_nothing_is_nothing():
    zero = torch.zeros(3, 4)
    assert not Dora(Full(zero), torch.ones(3)).added(zero).any()


def test_a_value_takes_the_place():
    draw = drawing(8)
    base, value = draw(6), draw(6)
    assert same(base + Value(value).added(base), value)


@pytest.mark.parametrize("kind", [*KINDS, *OF_KERNELS])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_kind_says_what_it_fits(kind: str, shape: tuple[int, ...]):
    if kind in OF_KERNELS and len(shape) == 2:
        return
    change = (KINDS | OF_KERNELS)[kind](shape, drawing(9, torch.float16))
    assert change.fits(shape)
    assert not change.fits((shape[0], shape[1] + 1, *shape[2:]))
    added = change.added(torch.ones(shape, dtype=torch.bfloat16))
    assert added.shape == shape and added.dtype == torch.float32 and bool(added.any())


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["lora", "loha", "lokr", "full"]),
    cut=st.integers(2, 10),
    swapped=st.booleans(),
)
def test_rows_of_a_fused_matrix(kind: str, cut: int, swapped: bool):
    shape = (12, 8)
    change = KINDS[kind](shape, drawing(10))
    pieces = [(cut, 12), (0, cut)] if swapped else [(1, cut)]
    ours = rows_of(change, shape, pieces)  # type: ignore[arg-type]
    whole = change.added(torch.zeros(shape, dtype=torch.float64))
    wanted = torch.cat([whole[begin:stop] for begin, stop in pieces])
    assert ours.fits(tuple(wanted.shape)) and ours.rank == change.rank
    assert same(ours.added(torch.zeros_like(wanted)), wanted)


def test_parts_of_a_lora_share_its_down():
    change = KINDS["lora"]((12, 8), drawing(11))
    assert isinstance(change, LowRank)
    part = rows_of(change, (12, 8), [(4, 8)])
    assert isinstance(part, LowRank) and part.down is change.down


@settings(max_examples=40, deadline=None)
@given(kinds=st.lists(st.sampled_from(["", "lora", "loha", "full"]), min_size=3, max_size=3))
def test_a_fused_matrix_of_parts(kinds: list[str]):
    draw, counts = drawing(12), (4, 6, 2)
    parts = [
        (KINDS[kind]((rows, 8), draw) if kind else None, rows)
        for kind, rows in zip(kinds, counts, strict=True)
    ]
    if not any(kinds):
        return
    whole = stacked(parts)  # type: ignore[arg-type]
    wanted = torch.cat(
        [
            torch.zeros(rows, 8, dtype=torch.float64)
            if part is None
            else part.added(torch.zeros(rows, 8, dtype=torch.float64))
            for part, rows in parts
        ]
    )
    assert whole.fits((12, 8))
    assert isinstance(whole, LowRank) == (not set(kinds) & {"loha", "full"})
    assert same(whole.added(torch.zeros_like(wanted)), wanted)


def test_a_change_of_a_linear_map_fits_the_convolution_of_the_same_numbers():
    """As SD 1 projects by 1x1 convolutions, and SD 2 by linear maps."""
    change = LowRank(torch.ones(6, 2, 1, 1), torch.ones(2, 8, 1, 1))
    assert change.fits((6, 8)) and change.fits((6, 8, 1, 1))
    assert nn.Linear(8, 6).weight.shape == change.added(torch.zeros(6, 8)).shape
