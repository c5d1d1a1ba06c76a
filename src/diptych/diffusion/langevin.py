"""Predictor and corrector (Song et al., 2021, algorithm 1): after each step of a solver, some of
Langevin dynamics at the noise level it came to (algorithms 4 and 5).

The norms in the step size are each row's own; the original takes means over the batch, by which a
row would know its neighbours. The factor 1 - beta of algorithm 5, near 1, is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.linalg import vector_norm

from diptych.diffusion.kernel import C, E, Table, begin, step
from diptych.diffusion.noise import step_noise
from diptych.diffusion.paths import Node
from diptych.diffusion.predictions import Prediction, to_x0
from diptych.foundation.errors import InvalidValue
from diptych.foundation.progress import Progress, Report, silent


def sample(
    ask: Callable[[Tensor, Node], Tensor], prediction: str | Prediction, table: Table, x: Tensor,
    seeds: Sequence[int], *, ratio: float = 0.16, rounds: int = 1, source: str = "torch",
    report: Report = silent,
) -> Tensor:  # fmt: skip
    """x [B, ...] carried through a table of one-step methods. Wherever a step ends, but at data,
    `rounds` corrections of signal-to-noise `ratio` follow.

    `ask(x [B, ...], node) -> out` is given x not scaled. Noise is by (seed, evaluation, stream):
    1 for the predictor, 2, 3, ... for the rounds. Raises InvalidValue for a multistep table.
    """
    state, since = begin(x), 0

    def fresh(at: int, stream: int) -> Tensor:
        return step_noise(seeds, at, tuple(x.shape[1:]), source, stream).to(x)

    for i, by in enumerate(table.coefficients(x)):
        if table.rows[i, [*C[since + 1 :], *E[since + 1 :]]].any():
            what = "A corrector leaves the way that a multistep solver remembers."
            raise InvalidValue(what, do="Choose euler, euler-ancestral, heun or rk4.")
        out, noise = ask(state.x, table.nodes[i]), fresh(i, 1) if table.noisy[i] else None
        state, since, there = step(state, out, by, noise), since + 1, table.after[i]
        if there is not None:
            x, since = state.x, 0
            for k in range(rounds if there.sigma > 0 else 0):
                x = corrected(x, score(prediction, x, ask(x, there), there), fresh(i, 2 + k), ratio)
            state = begin(x)
        report(Progress(i + 1, len(table)))
    return state.x


def corrected(x: Tensor, score: Tensor, noise: Tensor, ratio: float) -> Tensor:
    """x + e score + sqrt(2 e) noise, all [B, ...], with e = 2 (ratio |noise| / |score|)^2 a row
    (algorithm 4). A row whose score is zero stays where it is."""
    axes = tuple(range(1, x.ndim))
    sizes = [vector_norm(part, dim=axes, keepdim=True) for part in (noise, score)]
    root = (ratio * sizes[0] / sizes[1]).nan_to_num(posinf=0.0)
    return x + 2 * root.square() * score + 2 * root * noise


def score(prediction: str | Prediction, x: Tensor, out: Tensor, node: Node) -> Tensor:
    """The gradient of the log density, (alpha x0 - x) / sigma^2, all [B, ...]; sigma > 0."""
    p, q = to_x0(prediction, node)
    return (node.alpha * p - 1) / node.sigma**2 * x + node.alpha * q / node.sigma**2 * out
