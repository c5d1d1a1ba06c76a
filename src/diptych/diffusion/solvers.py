"""The solvers by name. A new solver is a table function and a line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature

from diptych.diffusion.kernel import Table
from diptych.diffusion.paths import Node, Path
from diptych.diffusion.predictions import Prediction
from diptych.diffusion.spacings import falls
from diptych.diffusion.tables import multistep, onestep, stages
from diptych.diffusion.tables.unipc import unipc
from diptych.foundation.errors import InvalidValue, unknown


@dataclass(frozen=True)
class Solver:
    """`build(path, nodes, prediction, **options)`; `order` of its error in the step, of the
    distribution's where it adds noise, 0 where it is made for trained-in few steps; `evaluations`
    of the network a step; `rises`: whether it also goes from data to noise."""

    build: Callable[..., Table]
    order: int
    evaluations: int
    line: str
    rises: bool = False


_ADAMS, _LMS, _DEIS = multistep.exponential_adams, multistep.lms, multistep.deis
_DDIM, _DPM, _PUBLISHED = onestep.ddim, stages.dpm_solver, partial(_ADAMS, published=True)

SOLVERS: dict[str, Solver] = {
    "euler": Solver(partial(_DDIM, eta=0.0), 1, 1, "first order", rises=True),
    "euler-ancestral": Solver(partial(_DDIM, eta=1.0), 1, 1, "first order, fresh noise"),
    "ddim": Solver(_DDIM, 1, 1, "first order; eta from 0 (none) to 1 says how much noise"),
    "ddpm-large": Solver(onestep.ddpm_large, 1, 1, "first order, fresh noise of larger variance"),
    "heun": Solver(stages.heun, 2, 2, "the trapezoidal rule of EDM", rises=True),
    "rk4": Solver(stages.rk4, 4, 4, "the classical Runge-Kutta method", rises=True),
    "edm-stochastic": Solver(
        stages.edm_stochastic, 2, 2, "Heun with noise put back; the order holds for inflate=1"
    ),
    "dpm-solver-2": Solver(partial(_DPM, order=2), 2, 2, "DPM-Solver-2, singlestep", True),
    "dpm-solver-3": Solver(partial(_DPM, order=3), 3, 3, "DPM-Solver-3, singlestep", True),
    "dpmpp-2s": Solver(stages.dpmpp_2s, 2, 2, "DPM-Solver++ 2S, singlestep"),
    "dpmpp-2m": Solver(partial(_PUBLISHED, order=2), 2, 1, "DPM-Solver++ 2M"),
    "dpmpp-3m": Solver(partial(_PUBLISHED, order=3), 2, 1, "DPM-Solver++ 3M as published"),
    "dpmpp-2m-sde": Solver(partial(_PUBLISHED, order=2, noisy=True), 2, 1, "SDE-DPM-Solver++ 2M"),
    "exp-ab2": Solver(partial(_ADAMS, order=2), 2, 1, "exponential Adams: 2M of the Heun kind"),
    "exp-ab3": Solver(partial(_ADAMS, order=3), 3, 1, "exponential Adams, corrected start"),
    "exp-ab4": Solver(partial(_ADAMS, order=4), 3, 1, "the same with four nodes"),
    "exp-ab2-sde": Solver(
        partial(_ADAMS, order=2, noisy=True), 2, 1, "SDE-DPM-Solver++ 2M of the Heun kind"
    ),
    "exp-ab3-sde": Solver(partial(_ADAMS, order=3, noisy=True), 2, 1, "the same with three nodes"),
    "unipc-1": Solver(partial(unipc, order=1), 2, 1, "UniPC of order 1 and its corrector"),
    "unipc": Solver(partial(unipc, order=2), 3, 1, "UniPC of order 2 and its corrector"),
    "unipc-3": Solver(partial(unipc, order=3), 4, 1, "UniPC of order 3 and its corrector"),
    "unipc-bh1": Solver(partial(unipc, order=2, linear=True), 3, 1, "UniPC of order 2 with B = h"),
    "lms": Solver(partial(_LMS, order=2), 2, 1, "linear multistep in the path's own time"),
    "lms-4": Solver(partial(_LMS, order=4), 3, 1, "the same with four nodes, corrected start"),
    "ipndm": Solver(multistep.ipndm, 2, 1, "iPNDM: weights of an even grid"),
    "pndm": Solver(multistep.pndm, 2, 1, "PNDM begun by a trapezoidal step, as in SD 1.x"),
    "deis": Solver(partial(_DEIS, order=2), 2, 1, "tAB-DEIS of order 2"),
    "deis-3": Solver(partial(_DEIS, order=3), 3, 1, "tAB-DEIS of order 3, corrected start"),
    "langevin": Solver(onestep.langevin, 0, 5, "annealed Langevin dynamics"),
    "consistency": Solver(onestep.consistency, 0, 1, "for consistency models"),
    "lcm": Solver(onestep.lcm, 0, 1, "for latent consistency models"),
    "tcd": Solver(onestep.tcd, 0, 1, "for trajectory consistency models"),
}

# Other names of the same step: docs/solvers.md says why each is one.
ALIASES: dict[str, str] = {
    "ddpm": "euler-ancestral",
    "deis-1": "euler",
    "dpm-solver-1": "euler",
    "dpm2": "dpm-solver-2",
    "dpmpp-1": "euler",
    "dpmpp-sde-1": "euler-ancestral",
    "dpmpp-2m-heun": "exp-ab2",
    "flow-euler": "euler",
    "flow-heun": "heun",
    "plms": "pndm",
    "unip-1": "euler",
}


def solver_named(name: str) -> Solver:
    """Raises NotFound for an unknown name, with the nearest right one."""
    name = ALIASES.get(name, name)
    if name not in SOLVERS:
        raise unknown("solver", name, [*SOLVERS, *ALIASES])
    return SOLVERS[name]


def table_of(
    name: str, path: Path, nodes: Sequence[Node], prediction: str | Prediction, **options: object
) -> Table:
    """All coefficients of a solver over these nodes, noise first; reversed nodes go back to noise.

    Raises NotFound for an unknown name, InvalidValue for options that the solver has not and
    where solver, path, nodes and prediction do not go together.
    """
    solver = solver_named(name)
    fixed = solver.build.keywords if isinstance(solver.build, partial) else {}
    known = [key for key in list(signature(solver.build).parameters)[3:] if key not in fixed]
    for option in options:
        if option not in known:
            has = f"It has: {', '.join(known)}." if known else "It has none."
            raise InvalidValue(f"The solver {name!r} has no option {option!r}.", do=has)
    if len(nodes) < 2 or not (falls(nodes) or falls(nodes[::-1])):
        raise InvalidValue("The nodes must all fall or all rise, and be two or more.")
    if not falls(nodes) and not solver.rises:
        rising = ", ".join(key for key, one in SOLVERS.items() if one.rises)
        raise InvalidValue(f"The solver {name!r} only goes to data.", do=f"Choose {rising}.")
    return solver.build(path, nodes, prediction, **options)
