"""Inpainting and image to image, on Gaussian data where each step is affine: means and
covariances are carried along exactly, nothing is sampled."""

from __future__ import annotations

from itertools import pairwise
from math import inf, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from diptych.diffusion.kernel import (
    WIDTH,
    C,
    D,
    E,
    N,
    Q,
    State,
    Table,
    X,
    begin,
    coefficients,
    step,
)
from diptych.diffusion.paths import FlowPath, Node
from diptych.foundation.errors import InvalidValue
from diptych.pipelines.editing import from_strength, held, noised, resampled

MEAN = torch.tensor([0.5, -1.0, 0.8, 0.3], dtype=torch.float64)
_ROOT = torch.tensor(
    [[1.0, 0, 0, 0], [0.8, 0.5, 0, 0], [-0.6, 0.5, 0.4, 0], [0.3, 0.9, -0.2, 0.5]],
    dtype=torch.float64,
)
COVARIANCE = _ROOT @ _ROOT.T
MASK = torch.tensor([0.0, 0, 1, 1], dtype=torch.float64)  # the first two are known
KNOWN = torch.tensor([1.7, 0.4, 9, 9], dtype=torch.float64)


def vp(rho: float) -> Node:
    alpha = 1 / sqrt(1 + rho * rho)
    return Node(rho, alpha, rho * alpha, rho)


NODES = [*map(vp, np.geomspace(50, 0.02, 60)), vp(0.0)]


def ancestral(nodes: list[Node]) -> Table:
    """DDIM of eta 1 for a network that predicts x0."""
    rows = np.zeros((len(nodes) - 1, WIDTH))
    for row, (s, t) in zip(rows, pairwise(nodes), strict=True):
        row[N] = t.sigma * (1.0 if s.rho == inf else sqrt(1 - (t.rho / s.rho) ** 2))
        row[X] = sqrt(max(0.0, t.sigma**2 - row[N] ** 2)) / s.sigma
        row[C[0]] = t.alpha - row[X] * s.alpha
    rows[:, [Q, D]] = 1
    return Table(rows, tuple(nodes[:-1]), tuple(nodes[1:]), np.ones(len(rows)))


def denoised(x: Tensor, node: Node, mean: Tensor, covariance: Tensor) -> Tensor:
    """E[x0 | x] of Gaussian data, [B, D]."""
    total = node.alpha**2 * covariance + node.sigma**2 * torch.eye(len(mean)).double()
    return mean + node.alpha * torch.linalg.solve(total, (x - node.alpha * mean).T).T @ covariance


def painted(table: Table) -> tuple[Tensor, Tensor]:
    """Mean and covariance of what inpainting gives, from noise to data: of each step the images
    of 0 and of all unit vectors of x, of the step's noise, of the known part's noise."""
    zero, unit = torch.zeros(4, 4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    none = zero[:1]
    x = torch.cat([none, unit, zero, zero])
    fresh, other = torch.cat([none, zero, unit, zero]), torch.cat([none, zero, zero, unit])
    mean, covariance = none[0], unit
    for node, after, row in zip(table.nodes, table.after, table.rows, strict=True):
        x0 = denoised(x, node, MEAN, COVARIANCE)
        state = step(begin(x), x0, coefficients(row[None], x), fresh)
        state = held(state, KNOWN, MASK, other, [after] * len(x))
        assert torch.equal(state.base, state.x)
        by_x, by_fresh, by_other = ((state.x[1:] - state.x[0]).unflatten(0, (3, 4))).unbind(0)
        mean = state.x[0] + mean @ by_x
        covariance = by_x.T @ covariance @ by_x + by_fresh.T @ by_fresh + by_other.T @ by_other
    return mean, covariance


def test_the_bias_of_inpainting_falls_with_every_repeat():
    o, u = slice(0, 2), slice(2, 4)
    gain = COVARIANCE[u, o] @ torch.linalg.inv(COVARIANCE[o, o])
    mean = MEAN[u] + gain @ (KNOWN[o] - MEAN[o])
    spread = COVARIANCE[u, u] - gain @ COVARIANCE[o, u]
    errors, spreads = [], []
    for times in (1, 5, 20):
        got, covariance = painted(resampled(ancestral(NODES), times))
        assert torch.equal(got[o], KNOWN[o]) and not covariance[o].any()
        errors.append(float((got[u] - mean).norm()))
        spreads.append(float((covariance[u, u] - spread).norm()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] and spreads[0] > spreads[1] > spreads[2]


def test_repeats_keep_the_noise_of_every_node():
    """For data that are one point, x is normal at each node with mean alpha x0 and sigma."""
    table = resampled(ancestral(NODES), 3)
    assert len(table) == 3 * 60 and table.nodes[:6] == tuple(NODES[i] for i in (0, 0, 0, 1, 1, 1))
    assert table.after[:6] == tuple(NODES[i] for i in (0, 0, 1, 1, 1, 2))
    mean, variance = NODES[0].alpha * 1.7, NODES[0].sigma ** 2
    for row, after in zip(table.rows, table.after, strict=True):
        mean, variance = row[X] * mean + row[C[0]] * 1.7, row[X] ** 2 * variance + row[N] ** 2
        assert after is not None
        assert mean == pytest.approx(after.alpha * 1.7, rel=1e-12)
        assert variance == pytest.approx(after.sigma**2, rel=1e-12, abs=1e-30)


def test_a_table_made_once_is_the_same_and_noise_alone_is_not_repeated():
    table = ancestral([FlowPath().at(t) for t in (1.0, 0.6, 0.0)])
    assert np.array_equal(resampled(table, 1).rows, table.rows)
    twice = resampled(table, 2)
    assert [node.time for node in twice.nodes] == [1.0, 0.6, 0.6]
    assert np.isfinite(twice.rows).all() and twice.after[-1] == table.after[-1]


def test_solvers_that_remember_or_take_stages_are_not_repeated():
    def changed(column: int, value: float) -> Table:
        table = ancestral(NODES)
        table.rows[3, column] = value
        return table

    table = ancestral(NODES)
    stages = Table(table.rows, table.nodes, (None, *table.after[1:]), table.scale)
    for wrong in (changed(C[1], 0.1), changed(E[0], 0.1), changed(D, 0.5), stages):
        with pytest.raises(InvalidValue, match="euler"):
            resampled(wrong, 2)
    with pytest.raises(InvalidValue, match="0 times"):
        resampled(table, 0)


def test_what_is_known_is_put_back_where_x_stands_and_base_follows_if_it_is_x():
    draw = torch.Generator().manual_seed(0)
    x, base, known, noise = torch.randn(4, 3, 2, 5, 5, generator=draw)
    mask = (torch.rand(3, 1, 5, 5, generator=draw) > 0.5).float()
    base[1] = x[1]
    nodes = [vp(0.7), vp(0.3), None]
    state = held(State(base, x, (known,)), known, mask, noise, nodes)
    there = mask.bool().expand_as(x)
    for i, node in enumerate(nodes):
        at_node = x[i] if node is None else noised(known[i], noise[i], node)
        assert torch.equal(state.x[i][there[i]], x[i][there[i]])
        torch.testing.assert_close(state.x[i][~there[i]], at_node[~there[i]])
    assert torch.equal(state.base[1], state.x[1]) and not torch.equal(state.base[1], x[1])
    assert torch.equal(state.base[0], base[0]) and torch.equal(state.x[2], x[2])
    for i, node in enumerate(nodes):
        part = slice(i, i + 1)
        solo = held(begin(x[part]) if i == 1 else State(base[part], x[part]),
                    known[part], mask[part], noise[part], [node])  # fmt: skip
        assert torch.equal(solo.x[0], state.x[i]) and torch.equal(solo.base[0], state.base[i])


@pytest.mark.parametrize("last", [vp(0.0), FlowPath().at(0.0)])
def test_at_the_end_the_known_is_there_bit_for_bit(last: Node):
    draw = torch.Generator().manual_seed(1)
    x, known, noise = torch.randn(3, 2, 3, 4, 4, generator=draw)
    mask = (torch.rand(2, 1, 4, 4, generator=draw) > 0.5).float()
    out = held(begin(x), known, mask, noise, [last] * 2).x
    assert torch.equal(out, torch.where(mask.bool(), x, known))


def test_a_strength_takes_the_last_steps():
    nodes = [FlowPath().at(1 - i / 50) for i in range(51)]
    assert from_strength(nodes, 1.0) == nodes
    for strength, steps in ((0.5, 25), (0.58, 29), (0.02, 1), (0.999, 49)):
        part = from_strength(nodes, strength)
        assert len(part) == steps + 1 and part == nodes[-1 - steps :]
    for strength in (0.0, -0.1, 1.01, 0.019, float("nan")):
        with pytest.raises(InvalidValue, match="1/50"):
            from_strength(nodes, strength)
    x0, noise = torch.ones(2, 3), torch.full((2, 3), 5.0)
    start = from_strength(nodes, 0.5)[0]
    torch.testing.assert_close(noised(x0, noise, start), torch.full((2, 3), 3.0))
