"""The one step that every solver makes. What differs between solvers stands in tables.

Of each row of a batch the state is `base`, `x` (what the network sees next) and the last stored
outputs. A step takes 14 numbers a row:

    m     = p x + q out                          what is stored: x0, noise or velocity
    H     = m and the three stored before
    base' = A base + X x + sum C_j H_j + n noise
    x'    = D base' + sum E_j H_j

Columns that are zero in all rows cost nothing. Rows may stand at different steps of different
solvers, join and leave: nothing is shared but the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

P, Q, A, X = range(4)
C = (4, 5, 6, 7)
N, D = 8, 9
E = (10, 11, 12, 13)
WIDTH = 14
SLOTS = 3  # stored outputs beside the newest


@dataclass(frozen=True)
class Table:
    """A solver's whole way: `rows` [evaluations, 14] float64, and the network's time at each."""

    rows: NDArray[np.float64]
    times: NDArray[np.float64]

    def __len__(self) -> int:
        """Evaluations of the network."""
        return len(self.times)

    @property
    def noisy(self) -> NDArray[np.bool_]:
        """Which evaluations are followed by fresh noise."""
        return self.rows[:, N] != 0


@dataclass(frozen=True)
class State:
    """`base` and `x` [B, ...]; `stored` the last outputs, newest first."""

    base: Tensor
    x: Tensor
    stored: tuple[Tensor, ...] = ()


def begin(x: Tensor) -> State:
    """The state at the first node, x [B, ...] noise as the path has it there."""
    return State(x, x)


def step(
    state: State, out: Tensor, rows: NDArray[np.float64], noise: Tensor | None = None
) -> State:
    """What the network said of `state.x`, made into the next state.

    out [B, ...], rows [B, 14] of the tables, noise [B, ...] standard normal or None where column
    N is zero. Raises ValueError for noise that is needed and not given.
    """
    used = (rows != 0).any(axis=0)
    block = torch.from_numpy(rows).to(state.x.dtype).to(out.device)
    columns = block.T.reshape(WIDTH, len(rows), *[1] * (out.ndim - 1)).unbind(0)
    plain = not used[P] and bool((rows[:, Q] == 1).all())
    m = out if plain else _sum(columns, [(P, state.x), (Q, out)], used)
    # A slot that was never filled is not multiplied: whatever it held could be infinite.
    history = (m, *state.stored)
    if used[N] and noise is None:
        raise ValueError("this step adds noise, and none was given")
    terms = [(A, state.base), (X, state.x), *zip(C, history, strict=False)]
    if noise is not None:
        terms.append((N, noise))
    moves = bool((rows[:, D] != 1).any()) or any(used[column] for column in E)
    base = _sum(columns, terms, used)
    x = base if not moves else _sum(columns, [(D, base), *zip(E, history, strict=False)], used)
    return replace(state, base=base, x=x, stored=history[:SLOTS])


def _sum(
    columns: Sequence[Tensor], terms: Sequence[tuple[int, Tensor]], used: NDArray[np.bool_]
) -> Tensor:
    total: Tensor | None = None
    for column, value in terms:
        if used[column]:
            scaled = columns[column]
            total = value * scaled if total is None else torch.addcmul(total, value, scaled)
    return torch.zeros_like(terms[0][1]) if total is None else total
