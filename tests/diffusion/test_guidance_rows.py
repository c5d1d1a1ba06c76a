"""Rows of all kinds of guidance in one call: the bits that they have alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

import numpy as np
import pytest
import torch
from answers import drawn
from torch import Tensor

from diptych.diffusion.guidance import (
    Guidance,
    autoguidance,
    classifier_free,
    composed,
    guided,
    perturbed,
    two_condition,
)
from diptych.diffusion.paths import FlowPath

FREE = classifier_free(4.0)
KINDS = [
    classifier_free(1.0),
    classifier_free(0.0),
    FREE,
    classifier_free(4.0, (0.3, 0.5)),
    FREE + perturbed(2.0, fade=0.5, start=1.0),
    autoguidance(2.5),
    two_condition(6.0, 1.5),
    composed([2.0, 0.7, -0.4]),
    replace(FREE, rescale=0.7, threshold=0.9),
    replace(FREE, projection=(0.0, 4.0, -0.5)),
    replace(FREE, projection=(0.3, inf, 0.0), rescale=0.2),
    replace(FREE + perturbed(1.5), zero_star=2, rescale=0.5),
    Guidance(told=3.5, threshold=0.5),
]
PASSES = ["conditional", "unconditional", "perturbed", "weak", "image"]
PASSES += [f"conditional-{i}" for i in (1, 2, 3)]


def network_of(owners: list[int], counts: list[int]) -> Callable[..., Tensor]:
    """A network that mixes each asked x with something of its row and pass, one at a time; adds
    to `counts` for each owner."""

    def ask(x: Tensor, rows: list[int], names: list[str]) -> Tensor:
        out = []
        for one_x, row, name in zip(x, rows, names, strict=True):
            owner, kind = owners[row], PASSES.index(name)
            counts[owner] += 1
            words = drawn(*one_x.shape, seed=100 * owner + kind).to(x.dtype)
            out.append(torch.tanh(one_x * (0.5 + 0.1 * kind)) + words)
        return torch.stack(out)

    return ask


def walk(
    owners: list[int], start: Tensor, times: list[list[float]], together: int
) -> tuple[Tensor, Tensor | None, list[int]]:
    """Three Euler steps of these rows of `start`, each at its own times."""
    counts = [0] * together
    x, momentum, ask = start[owners], None, network_of(owners, counts)
    for step in range(3):
        nodes = [FlowPath().at(times[owner][step]) for owner in owners]
        after = x.new_tensor([times[owner][step + 1] for owner in owners])
        here = x.new_tensor([node.sigma for node in nodes])
        out, momentum = guided(
            ask, x, [KINDS[owner] for owner in owners], nodes, "velocity",
            [step] * len(owners), momentum,
        )  # fmt: skip
        x = x + (after - here).view(-1, 1, 1, 1) * out
    return x, momentum, counts


@pytest.mark.parametrize("shape", [(3, 5, 7), (4, 16, 16)])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_rows_of_all_kinds_share_a_call_and_have_the_bits_that_they_have_alone(
    shape: tuple[int, ...], kind: torch.dtype
):
    rows = len(KINDS)
    start = drawn(rows, *shape, seed=7).to(kind)
    draw = np.random.default_rng(3)
    times = [sorted(draw.uniform(0.05, 0.9, 4), reverse=True) for _ in range(rows)]
    alone = [walk([i], start, times, rows) for i in range(rows)]
    # A row that is silent at first beside one of two passes: as many evaluations as rows.
    mixes = [
        list(range(rows)),
        [11, 2],
        *(list(draw.permutation(rows)[:k]) for k in (12, 7, 4, 2, 2)),
    ]
    for owners in mixes:
        x, momentum, counts = walk(list(map(int, owners)), start, times, rows)
        for place, owner in enumerate(owners):
            assert torch.equal(x[place], alone[owner][0][0])
            if KINDS[owner].projection:
                assert momentum is not None and torch.equal(momentum[place], alone[owner][1][0])
            assert counts[owner] == alone[owner][2][owner]
    asked = [alone[i][2][i] for i in range(rows)]
    assert asked[:3] == [3, 3, 6] and asked[11] == 3 and asked[7] == 12 and asked[12] == 3
