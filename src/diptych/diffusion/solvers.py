"""The solvers by name. A new solver is a table function and a line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isinf

from diptych.diffusion.kernel import Table
from diptych.diffusion.paths import Node, Path
from diptych.diffusion.tables.drift import adams, deis, heun, rk4
from diptych.diffusion.tables.exponential import ddim, exponential_adams, unipc
from diptych.foundation.errors import unknown

Build = Callable[[Path, Sequence[Node], str], Table]


@dataclass(frozen=True)
class Solver:
    """`order` of its error in the step; `evaluations` of the network a step."""

    build: Build
    order: int
    evaluations: int
    line: str


def _of_nodes(build: Callable[..., Table], **options: object) -> Build:
    return lambda _, nodes, prediction: build(nodes, prediction, **options)


def _euler(path: Path, nodes: Sequence[Node], prediction: str) -> Table:
    """The same step in two forms; in the path's own time it costs one operation less."""
    if prediction == path.drift and not (path.drift == "eps" and isinf(nodes[0].rho)):
        return adams(path, nodes, prediction, order=1)
    return ddim(nodes, prediction)


_PUBLISHED = partial(_of_nodes, exponential_adams, published=True)

SOLVERS: dict[str, Solver] = {
    "euler": Solver(_euler, 1, 1, "first order: Euler, DDIM, DPM-Solver++ 1"),
    "euler-ancestral": Solver(
        _of_nodes(ddim, eta=1.0), 1, 1, "first order with fresh noise: DDPM, DDIM of eta 1"
    ),
    "dpmpp-2m": Solver(_PUBLISHED(order=2), 2, 1, "DPM-Solver++ 2M"),
    "dpmpp-2m-sde": Solver(
        _PUBLISHED(order=2, noisy=True), 2, 1, "DPM-Solver++ 2M with fresh noise"
    ),
    "dpmpp-3m": Solver(_PUBLISHED(order=3), 2, 1, "DPM-Solver++ 3M as published"),
    "exp-ab3": Solver(
        _of_nodes(exponential_adams, order=3), 3, 1, "exponential Adams-Bashforth, corrected start"
    ),
    "unipc": Solver(_of_nodes(unipc, order=2), 3, 1, "UniPC of order 2 and its corrector"),
    "unipc-3": Solver(_of_nodes(unipc, order=3), 4, 1, "UniPC of order 3 and its corrector"),
    "heun": Solver(heun, 2, 2, "the trapezoidal rule of EDM"),
    "rk4": Solver(rk4, 4, 4, "the classical Runge-Kutta method"),
    "lms": Solver(partial(adams, order=2), 2, 1, "linear multistep in the path's own time"),
    "ipndm": Solver(partial(adams, order=4, even=True), 2, 1, "iPNDM: weights of an even grid"),
    "deis": Solver(partial(deis, order=2), 2, 1, "tAB-DEIS of order 2"),
}


def table_of(name: str, path: Path, nodes: Sequence[Node], prediction: str) -> Table:
    """All coefficients of a solver over these nodes.

    Raises NotFound for an unknown name, InvalidValue where solver, path and prediction do not go
    together.
    """
    if name not in SOLVERS:
        raise unknown("solver", name, SOLVERS)
    return SOLVERS[name].build(path, nodes, prediction)
