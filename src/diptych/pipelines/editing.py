"""Image to image and inpainting (Lugmayr et al., 2022, RePaint): not loops of their own, but a
choice of nodes, another table, and the state mended between two steps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import isinf

import torch
from torch import Tensor

from diptych.diffusion.kernel import C, D, E, State, Table
from diptych.diffusion.paths import Node, Path
from diptych.diffusion.tables import renoised
from diptych.foundation.errors import InvalidValue


def from_strength(nodes: Sequence[Node], strength: float) -> list[Node]:
    """The nodes of the last steps, a share of `strength` of all, rounded down to whole steps.
    Raises InvalidValue for a strength outside 0..1, or one that leaves no step."""
    most = len(nodes) - 1
    steps = int(most * strength + 1e-9) if 0 < strength <= 1 else 0
    if not steps:
        do = f"Choose 1/{most} to 1: one step to all of them."
        raise InvalidValue(f"A strength of {strength} is not offered.", do=do)
    return list(nodes[most - steps :])


def between(nodes: Sequence[Node], path: Path, part: tuple[float, float]) -> list[Node]:
    """The nodes of a part of the way: shares of the trained time, 0 at noise; one part ends
    where the next begins (an ensemble of experts, Podell et al., 2023, 2.5). Raises InvalidValue
    for a part that holds no step."""
    if part == (0.0, 1.0):
        return list(nodes)
    span = path.steps or path.last
    # Training steps are whole, and the published programs round so.
    cuts = [(1 - share) * span for share in part]
    cuts = [round(cut) if path.steps else cut for cut in cuts]
    reached = [path.at(min(cut, path.last)).rho * (1 - 1e-9) for cut in cuts]
    begin = sum(node.rho >= reached[0] for node in nodes) if part[0] else 0
    end = sum(node.rho >= reached[1] for node in nodes) if part[1] < 1 else len(nodes) - 1
    if end <= begin:
        raise InvalidValue(
            f"No step of {len(nodes) - 1} lies from {part[0]:g} to {part[1]:g} of the way.",
            do="Choose more steps, or a longer part.",
        )
    return list(nodes[begin : end + 1])


def noised(x0: Tensor, noise: Tensor, node: Node) -> Tensor:
    """A picture as it stands at a node: alpha x0 + sigma noise, [B, ...]."""
    return node.alpha * x0 + node.sigma * noise


def held(
    state: State, known_x0: Tensor, mask: Tensor, noise: Tensor, nodes: Sequence[Node | None]
) -> State:
    """The state with what is known put back where `mask` is 0 (1: to be painted), all [B, ...],
    each row at the node where its x stands; None, in the midst of a step, leaves it alone. A
    row's base that is its x stays its x. Replacing is biased, less so with `resampled`."""
    places = [(1.0, 0.0, 0.0) if n is None else (0.0, n.alpha, n.sigma) for n in nodes]
    shape = (-1, *[1] * (state.x.ndim - 1))
    free, alpha, sigma = (part.view(shape) for part in state.x.new_tensor(places).unbind(1))
    painted = (mask + free).clamp(max=1)
    x = painted * state.x + (1 - painted) * (alpha * known_x0 + sigma * noise)
    same = (state.base == state.x).flatten(1).all(dim=1).view(shape)
    return State(torch.where(same, x, state.base), x, state.stored)


def resampled(table: Table, times: int) -> Table:
    """Every step from s to t made `times` times, with the path's own way back in between:
    alpha_s / alpha_t x + sqrt(sigma_s^2 - (alpha_s / alpha_t)^2 sigma_t^2) noise, in the same
    row. A step from noise alone is made once, since nothing would be left of it.

    Raises InvalidValue for a solver that stores outputs or asks more than once a step.
    """
    stores = table.rows[:, [*C[1:], *E]].any() or (table.rows[:, D] != 1).any()
    if times < 1 or stores or None in table.after:
        do = "Choose 1 or more, and a solver of one step: euler or euler-ancestral."
        raise InvalidValue(f"This table cannot be made {times} times a step.", do=do)
    source = [
        i for i, node in enumerate(table.nodes) for _ in range(1 if isinf(node.rho) else times)
    ]
    rows, after = table.rows[source], [table.after[i] for i in source]
    for k, (i, following) in enumerate(itertools.pairwise(source)):
        t = table.after[i]
        if i == following and t is not None:
            after[k] = table.nodes[i]
            rows[k] = renoised(rows[k], t, table.nodes[i])
    return Table(rows, tuple(table.nodes[i] for i in source), tuple(after), table.scale[source])
