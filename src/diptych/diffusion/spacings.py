"""Where a solver stops on its way from noise to data: lists of nodes, noise first.

The list is the only schedule: the ratio and the network's time of a node come from one number.
Most lists make their last step from the smallest ratio to data itself. With `ends="trained"` they
stop at the smallest ratio that was trained instead, as SD 1.x was used from the start.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from math import exp, isinf, log

import numpy as np

from diptych.diffusion.paths import Node, Path
from diptych.foundation.errors import InvalidValue, unknown
from diptych.foundation.extras import need

MOST_STEPS = 1000


def trailing(path: Path, steps: int, *, shift: float = 1.0, ends: str = "data") -> list[Node]:
    """Even times from the last to 0, noise included. A flow's times are moved towards noise by
    `shift`: t' = shift t / (1 + (shift - 1) t) (Esser et al., 2024, eq. 23)."""
    if path.steps:
        _refuse_more_than(path, steps)
        times = [round(path.steps * (steps - i) / steps) - 1.0 for i in range(steps)]
    else:
        times = [_own_time(path, "trailing") * (steps - i) / steps for i in range(steps)]
    return _ending(path, _shifted(path, times, shift), ends)


def leading(path: Path, steps: int, *, offset: int = 0, ends: str = "data") -> list[Node]:
    """Every n-th training step, counted from data; noise itself is left out (Ho et al., 2020, as
    DDIM and SD 1.x take it, with `offset` 1)."""
    _refuse_more_than(path, steps)
    stride = path.steps // steps
    times = [float(i * stride + offset) for i in reversed(range(steps))]
    if not offset >= 0 or times[0] > path.last:
        what = f"An offset of {offset} leaves the path with {steps} steps."
        raise InvalidValue(what, do="Choose 0 or 1.")
    return _ending(path, [path.at(t) for t in times], ends)


def linspace(path: Path, steps: int, *, ends: str = "data") -> list[Node]:
    """Training steps even from the last towards 0, between two where they fall so."""
    _refuse_more_than(path, steps)
    times = [path.last * (steps - i) / steps for i in range(steps)]
    return _ending(path, [path.at(t) for t in times], ends)


def karras(
    path: Path, steps: int, *, power: float = 7.0, first: float | None = None,
    last: float | None = None, ends: str = "data",
) -> list[Node]:  # fmt: skip
    """rho even in its `power`-th root (Karras et al., 2022, eq. 5) over the range that was
    trained, or from `first` to `last`."""
    high, low = _range(path, "karras", first, last)
    if not power > 0:
        raise InvalidValue(f"A power of {power} is not offered.", do="Choose one above 0; 7 is.")
    roots = np.linspace(high ** (1 / power), low ** (1 / power), steps)
    return _ending(path, _within(path, [float(r) ** power for r in roots], high, low), ends)


def exponential(
    path: Path, steps: int, *, first: float | None = None, last: float | None = None,
    ends: str = "data",
) -> list[Node]:  # fmt: skip
    """ln rho even over the range that was trained, or from `first` to `last`."""
    high, low = _range(path, "exponential", first, last)
    levels = np.linspace(log(high), log(low), steps)
    return _ending(path, _within(path, list(map(exp, levels)), high, low), ends)


def log_snr(
    path: Path, steps: int, *, first: float | None = None, last: float | None = None
) -> list[Node]:
    """lambda even over the range that was trained, or from ratio `first` to `last`, which is the
    end: there is no step to data (Lu et al., 2022, section 3.3)."""
    high, low = _range(path, "log-snr", first, last)
    levels = np.linspace(log(high), log(low), steps + 1)
    return _within(path, list(map(exp, levels)), high, low)


def beta(
    path: Path, steps: int, *, a: float = 0.6, b: float = 0.6, shift: float = 1.0,
    ends: str = "data",
) -> list[Node]:  # fmt: skip
    """Times at the quantiles of Beta(a, b): dense at both ends (Lee et al., 2024)."""
    if not (a > 0 and b > 0):
        raise InvalidValue(f"Beta({a}, {b}) is no distribution.", do="Choose both above 0.")
    quantile = need("scipy.special", "eval").betaincinv
    shares = [float(quantile(a, b, (steps - i) / steps)) for i in range(steps)]
    times = [_own_time(path, "beta") * share for share in shares]
    return _ending(path, _shifted(path, times, shift), ends)


def custom(path: Path, rhos: Sequence[float]) -> list[Node]:
    """Ratios of one's own, which all fall, or all rise to go from data to noise."""
    nodes = [path.node(rho) for rho in rhos]
    if len(nodes) < 2 or not (falls(nodes) or falls(nodes[::-1])):
        what = f"{len(nodes)} ratios of one's own do not all fall or all rise."
        raise InvalidValue(what, do="Give two or more in order.")
    return nodes


@dataclass(frozen=True)
class Spacing:
    build: Callable[..., list[Node]]
    line: str


SPACINGS: dict[str, Spacing] = {
    "trailing": Spacing(trailing, "even times, noise included; a flow's moved by its shift"),
    "leading": Spacing(leading, "every n-th training step, counted from data"),
    "linspace": Spacing(linspace, "even training steps, noise included"),
    "karras": Spacing(karras, "even in the seventh root of the noise ratio"),
    "exponential": Spacing(exponential, "even in the logarithm of the noise ratio, then to data"),
    "log-snr": Spacing(log_snr, "even in lambda, over the trained range alone"),
    "beta": Spacing(beta, "quantiles of a Beta distribution: dense at both ends"),
}


def nodes_of(name: str, path: Path, steps: int, **options: object) -> list[Node]:
    """The list of this name over this path, steps + 1 nodes.

    Raises NotFound for an unknown name; InvalidValue for options that it has not, and for
    combinations that mean nothing: nothing is ignored.
    """
    known = options_of(name)
    if not 1 <= steps <= MOST_STEPS:
        raise InvalidValue(f"{steps} steps are not offered.", do=f"Choose 1 to {MOST_STEPS}.")
    for option in options:
        if option not in known:
            what = f"The spacing {name!r} has no option {option!r}."
            raise InvalidValue(what, do=f"It has: {', '.join(known)}.")
    nodes = SPACINGS[name].build(path, steps, **options)
    if not falls(nodes):
        what = f"{steps} steps of {name!r} do not all go down on this path."
        raise InvalidValue(what, do="Take fewer steps, ends='data', or another spacing.")
    return nodes


def options_of(name: str) -> list[str]:
    """What a spacing takes beside path and steps. Raises NotFound for an unknown name."""
    if name not in SPACINGS:
        raise unknown("spacing", name, SPACINGS)
    return list(signature(SPACINGS[name].build).parameters)[2:]


def shift_for_tokens(
    tokens: int, low: tuple[int, float] = (256, 0.5), high: tuple[int, float] = (4096, 1.15)
) -> float:
    """The shift e^mu of FLUX.1 for so many picture tokens, mu linear between two sizes; the
    exponential form e^mu / (e^mu + 1 / t - 1) is `trailing`'s with this shift."""
    return exp(low[1] + (high[1] - low[1]) * (tokens - low[0]) / (high[0] - low[0]))


def shift_for_tokens_and_steps(tokens: int, steps: int) -> float:
    """The shift e^mu of FLUX.2, which also looks at the number of steps."""
    many = 1.6927e-4 * tokens + 0.456667
    few = 8.738095e-5 * tokens + 1.898333
    return exp(many if tokens > 4300 else few + (many - few) * (steps - 10) / 190)


def _ending(path: Path, nodes: list[Node], ends: str) -> list[Node]:
    if ends not in ("data", "trained"):
        raise InvalidValue(f"ends={ends!r} is not known.", do="Choose 'data' or 'trained'.")
    return [*nodes, path.node(0.0 if ends == "data" else path.end)]


def _shifted(path: Path, times: list[float], shift: float) -> list[Node]:
    if not shift > 0 or isinf(shift):
        raise InvalidValue(f"A shift of {shift} is not offered.", do="Choose one above 0.")
    if shift != 1 and path.drift != "velocity":
        raise InvalidValue("A shift means something on a flow only.", do="Leave it out.")
    if shift != 1:
        times = [shift * t / (1 + (shift - 1) * t) for t in times]
    return [path.at(t) for t in times]


def _within(path: Path, rhos: list[float], high: float, low: float) -> list[Node]:
    """The ends themselves, whatever rounding made of them."""
    return [path.node(rho) for rho in [high, *rhos[1:-1], *[low] * (len(rhos) > 1)]]


def _range(path: Path, name: str, first: float | None, last: float | None) -> tuple[float, float]:
    high, low = first or path.start, last or path.end
    if isinf(high) or low == 0:
        what = f"The spacing {name!r} needs a first and a last ratio, and this path has none."
        raise InvalidValue(what, do="Give first= and last=, or choose 'trailing'.")
    if not 0 < low < high:
        raise InvalidValue(f"Ratios from {high:g} down to {low:g} do not fall.")
    return high, low


def _own_time(path: Path, name: str) -> float:
    if not path.last:
        what = f"The spacing {name!r} needs a time, and a variance exploding path has none."
        raise InvalidValue(what, do="Choose 'karras' or 'exponential'.")
    return path.last


def _refuse_more_than(path: Path, steps: int) -> None:
    if not path.steps:
        what = "This spacing counts training steps, and this path has none."
        raise InvalidValue(what, do="Choose 'trailing' or 'karras'.")
    if steps > path.steps:
        raise InvalidValue(f"{steps} steps are more than the {path.steps} that were trained.")


def falls(nodes: Sequence[Node]) -> bool:
    """Whether every node is nearer to data than the one before."""
    return all(a.rho > b.rho for a, b in itertools.pairwise(nodes))
