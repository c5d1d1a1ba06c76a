"""The one step that every solver makes. What differs between solvers stands in tables.

Of each row of a batch the state is `base`, `x` (what the network sees next) and the last stored
outputs. A step takes 14 numbers a row:

    m     = p x + q out                          what is stored: x0, noise or velocity
    H     = m and the three stored before
    base' = A base + X x + sum C_j H_j + n noise
    x'    = D base' + sum E_j H_j

A number that is zero in all rows costs nothing, one that is one in all no multiplication. Rows may
stand at different steps of different solvers, join and leave: nothing is shared but the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.diffusion.paths import Node

P, Q, A, X = range(4)
C = (4, 5, 6, 7)
N, D = 8, 9
E = (10, 11, 12, 13)
WIDTH = 14
SLOTS = 3  # stored outputs beside the newest

# What a step reads, by number: base, x, out, noise, then m and the three stored before it.
BASE, SEEN, OUT, FRESH, FIRST = range(5)
# A sum: which of these, times what [B, 1, ...], or None where that is one in all rows.
Sum = tuple[tuple[int, Tensor | None], ...]


@dataclass(frozen=True)
class Table:
    """A solver's whole way, one entry for each evaluation of the network.

    `rows` [evaluations, 14] float64. `nodes`: where the network is asked. `after`: the node at
    which x stands then, or None in the midst of a step. `scale` [evaluations]: what x is
    multiplied by before the network sees it, 1 but for networks with preconditioned inputs.
    """

    rows: NDArray[np.float64]
    nodes: tuple[Node, ...]
    after: tuple[Node | None, ...]
    scale: NDArray[np.float64]

    def __len__(self) -> int:
        """Evaluations of the network."""
        return len(self.nodes)

    @cached_property
    def times(self) -> NDArray[np.float64]:
        """What the network is told as the time at each evaluation."""
        return np.array([node.time for node in self.nodes])

    @property
    def noisy(self) -> NDArray[np.bool_]:
        """Which evaluations are followed by fresh noise."""
        return self.rows[:, N] != 0

    def coefficients(self, like: Tensor) -> list[Coefficients]:
        """Each evaluation's, for a batch in which every row follows this table."""
        return [coefficients(row[None], like) for row in self.rows]


class State(NamedTuple):
    """`base` and `x` [B, ...]; `stored` the last outputs, newest first."""

    base: Tensor
    x: Tensor
    stored: tuple[Tensor, ...] = ()


class Coefficients(NamedTuple):
    """The three sums of one step, on the device; None where the sum is its first term alone."""

    stored: Sum | None
    base: Sum
    x: Sum | None

    @property
    def noisy(self) -> bool:
        """Whether any row adds noise."""
        return any(read == FRESH for read, _ in self.base)


def begin(x: Tensor) -> State:
    """The state at the first node, x [B, ...] noise as the path has it there."""
    return State(x, x)


def coefficients(rows: NDArray[np.float64], like: Tensor) -> Coefficients:
    """rows [B or 1, 14] of tables, made ready for a batch like `like` [B, ...]: one copy to its
    device, nothing is read back. float64 for a float64 batch, else float32."""
    used, one = ((rows != 0).any(axis=0).tolist(), (rows == 1).all(axis=0).tolist())
    kind = np.float64 if like.dtype == torch.float64 else np.float32
    block = torch.from_numpy(np.ascontiguousarray(rows.T, kind)).to(like.device)
    columns = block.view(WIDTH, len(rows), *[1] * (like.ndim - 1)).unbind(0)

    def terms(*pairs: tuple[int, int]) -> Sum:
        return tuple((read, None if one[i] else columns[i]) for i, read in pairs if used[i])

    converts, moves = used[P] or not one[Q], not one[D] or any(used[i] for i in E)
    history = range(FIRST, FIRST + len(C))
    return Coefficients(
        terms((P, SEEN), (Q, OUT)) if converts else None,
        terms((A, BASE), (X, SEEN), *zip(C, history, strict=True), (N, FRESH)),
        terms((D, BASE), *zip(E, history, strict=True)) if moves else None,
    )


def step(state: State, out: Tensor, by: Coefficients, noise: Tensor | None = None) -> State:
    """What the network said of `state.x`, made into the next state.

    out [B, ...], noise [B, ...] standard normal or None where column N is zero. Raises ValueError
    for noise that is needed and not given.
    """
    base, x, stored = state
    m = out if by.stored is None else _sum(by.stored, (base, x, out))
    # A slot that was never filled is in no sum: whatever it held could be infinite.
    base = _sum(by.base, (base, x, out, noise, m, *stored))
    moved = base if by.x is None else _sum(by.x, (base, x, out, noise, m, *stored))
    return State(base, moved, (m, *stored[: SLOTS - 1]))


def joined(states: Sequence[State]) -> State:
    """The rows of several states as one batch; slots that one has not filled yet hold zeros."""
    slots = max(len(state.stored) for state in states)
    stored = [
        [*state.stored, *[torch.zeros_like(state.x)] * (slots - len(state.stored))]
        for state in states
    ]
    columns = zip(*stored, strict=True)
    return State(
        torch.cat([state.base for state in states]),
        torch.cat([state.x for state in states]),
        tuple(torch.cat(slot) for slot in columns),
    )


def chosen(state: State, rows: Sequence[int]) -> State:
    """These rows of a batch, in this order: who stays when others leave."""
    index = torch.tensor(rows, device=state.x.device)
    picked = [part.index_select(0, index) for part in (state.base, state.x, *state.stored)]
    return State(picked[0], picked[1], tuple(picked[2:]))


def _sum(terms: Sum, read: tuple[Tensor | None, ...]) -> Tensor:
    total: Tensor | None = None
    ours = False  # whether `total` is a tensor of this call, to be written over
    for index, column in terms:
        value = read[index]
        if value is None:
            raise ValueError("this step adds noise, and none was given")
        if total is None:
            total, ours = (value, False) if column is None else (value * column, True)
        elif column is None:
            total, ours = total.add_(value) if ours else total + value, True
        else:
            total = total.addcmul_(value, column) if ours else total.addcmul(value, column)
            ours = True
    if total is None:
        raise ValueError("a row of all zeros is no step")
    return total
