"""The one step that every solver makes. What differs between solvers stands in tables.

Of each row of a batch the state is `base`, `x` (what the network sees next) and the last stored
outputs. A step takes 14 numbers a row:

    m     = p x + q out                          what is stored: x0, noise or velocity
    H     = m and the three stored before
    base' = A base + X x + sum C_j H_j + n noise
    x'    = D base' + sum E_j H_j

A column that is zero in all rows costs nothing, one that is all ones no multiplication. Rows may
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

# A column: None where it is zero in all rows, 1.0 where it is one in all, else [B, 1, ...].
Column = Tensor | float | None


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
    """The numbers of one step as `step` wants them: on the device, in the dtype of x."""

    columns: tuple[Column, ...]
    converts: bool
    moves: bool


def begin(x: Tensor) -> State:
    """The state at the first node, x [B, ...] noise as the path has it there."""
    return State(x, x)


def coefficients(rows: NDArray[np.float64], like: Tensor) -> Coefficients:
    """rows [B or 1, 14] of tables, made ready for a batch like `like` [B, ...]: one copy to its
    device, nothing is read back. float64 for a float64 batch, else float32."""
    kind = np.float64 if like.dtype == torch.float64 else np.float32
    block = torch.from_numpy(np.ascontiguousarray(rows.T, kind)).to(like.device)
    shape = (len(rows), *[1] * (like.ndim - 1))
    zero, one = (rows == 0).all(axis=0).tolist(), (rows == 1).all(axis=0).tolist()
    columns = tuple(
        None if zero[i] else 1.0 if one[i] else column.view(shape)
        for i, column in enumerate(block.unbind(0))
    )
    converts = not (zero[P] and one[Q])
    return Coefficients(columns, converts, not (one[D] and all(zero[i] for i in E)))


def step(state: State, out: Tensor, by: Coefficients, noise: Tensor | None = None) -> State:
    """What the network said of `state.x`, made into the next state.

    out [B, ...], noise [B, ...] standard normal or None where column N is zero. Raises ValueError
    for noise that is needed and not given.
    """
    base, x, stored = state
    columns = by.columns
    m = _sum(columns, [(P, x), (Q, out)]) if by.converts else out
    # A slot that was never filled is not multiplied: whatever it held could be infinite.
    history = (m, *stored)
    terms = [(A, base), (X, x), *zip(C, history, strict=False)]
    if columns[N] is not None:
        if noise is None:
            raise ValueError("this step adds noise, and none was given")
        terms.append((N, noise))
    base = _sum(columns, terms)
    if not by.moves:
        return State(base, base, history[:SLOTS])
    x = _sum(columns, [(D, base), *zip(E, history, strict=False)])
    return State(base, x, history[:SLOTS])


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


def _sum(columns: Sequence[Column], terms: Sequence[tuple[int, Tensor]]) -> Tensor:
    total: Tensor | None = None
    ours = False  # whether `total` is a tensor of this call, to be written over
    for index, value in terms:
        column = columns[index]
        if column is None:
            continue
        if not isinstance(column, Tensor):
            if total is None:
                total = value
                continue
            total = total.add_(value) if ours else total + value
        elif total is None:
            total = value * column
        else:
            total = total.addcmul_(value, column) if ours else total.addcmul(value, column)
        ours = True
    return torch.zeros_like(terms[0][1]) if total is None else total
