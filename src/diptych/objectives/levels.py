"""Where on its path a sample is trained: distributions of the time or of the noise level.

Some draw a share of the path's time in 0..1: the time t itself of a flow, the step floor(t T) of
a discrete schedule of T steps, what `path.at` takes on any other path with a time. Others draw
the ratio rho = sigma / alpha, within the ratios that the path states. On a flow a log-normal ratio
is the logit-normal time: t / (1 - t) = rho.

`even` takes one uniform number u for the whole batch and gives row i the quantile
(u + i / B) mod 1 (Kingma et al., 2021, appendix I.1): each row keeps its distribution, the mean
over the batch varies less. Only then does a row's level depend on how many rows there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import erf, inf, isfinite, log, pi, sqrt
from typing import Any, Literal

import torch
from torch import Tensor

from diptych.diffusion.paths import Path, VariancePreserving
from diptych.foundation.errors import InvalidValue, unknown
from diptych.objectives.places import Places, at_rhos, at_times, precision

MODE_RANGE = (-1.0, 2 / (pi - 2))  # where the map of `mode` falls everywhere: -1 to 1.752
_SMALLEST = 2.0**-24  # of torch.rand in single precision, beside 0


def uniform(
    count: int, generator: torch.Generator, device: torch.device, *, even: bool = False
) -> Tensor:
    """Numbers [count] in 0 <= u < 1."""
    if not even:
        return torch.rand(count, generator=generator, device=device)
    first = torch.rand(1, generator=generator, device=device).to(precision(device))
    return (first + torch.arange(count, device=device).to(first.dtype) / count) % 1


def logit_normal(
    count: int,
    generator: torch.Generator,
    device: torch.device,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    even: bool = False,
) -> Tensor:
    """Times [count] in 0..1; a positive mean leans to noise, t = 1 (Esser et al., 2024, 3.1)."""
    if even:
        normal = torch.special.ndtri(_inner(uniform(count, generator, device, even=True)))
    else:
        normal = torch.randn(count, generator=generator, device=device)
    return torch.sigmoid(mean + std * normal)


def mode(
    count: int,
    generator: torch.Generator,
    device: torch.device,
    *,
    scale: float = 1.29,
    even: bool = False,
) -> Tensor:
    """Times [count] in 0..1 that gather in the middle for a positive scale, at the ends for a
    negative one: 1 - u - scale (cos^2(pi u / 2) - 1 + u) (Esser et al., 2024, 3.1)."""
    u = uniform(count, generator, device, even=even).to(precision(device))
    return (1 - u - scale * ((pi / 2 * u).cos().square() - 1 + u)).clamp(0, 1)


def cosmap(
    count: int, generator: torch.Generator, device: torch.device, *, even: bool = False
) -> Tensor:
    """Times [count] in 0..1 of density 2 / (pi (1 - 2t + 2t^2)), under which the log
    signal-to-noise ratio of a flow is that of the cosine schedule (Esser et al., 2024, 3.1).

    `weights` has the same function as a weight over uniform times: the same expected loss.
    """
    u = uniform(count, generator, device, even=even).to(precision(device))
    return 1 - 1 / ((pi / 2 * u).tan() + 1)


def log_normal(
    count: int,
    generator: torch.Generator,
    device: torch.device,
    *,
    mean: float = -1.2,
    std: float = 1.2,
    ends: tuple[float, float] = (0.0, inf),
    even: bool = False,
) -> Tensor:
    """Ratios [count] with ln rho ~ N(mean, std^2) (Karras et al., 2022, table 1), given that they
    lie between the ends. Raises InvalidValue if hardly any do."""
    low, high = ends
    first, last = (_normal_below((_log(end) - mean) / std) for end in ends)
    if last - first < 1e-3:
        raise InvalidValue(
            f"A log-normal ratio of mean {mean:g} and std {std:g} hardly ever lies in the path's "
            f"range, {low:g} to {high:g}.",
            do="Move the mean of ln rho into it.",
        )
    u = _inner(uniform(count, generator, device, even=even))
    normal = torch.special.ndtri(first + (last - first) * u)
    return (mean + std * normal).exp().clamp(low, high)


def log_uniform(
    count: int,
    generator: torch.Generator,
    device: torch.device,
    *,
    ends: tuple[float, float],
    even: bool = False,
) -> Tensor:
    """Ratios [count] with ln rho even between two finite ends (Song et al., 2021, the VE SDE)."""
    low, high = ends
    if not 0 < low < high < inf:
        raise InvalidValue(
            f"Log-uniform ratios need two ends, not {low:g} to {high:g}.",
            do="Choose log-normal on a path that begins at noise alone or ends at data alone.",
        )
    u = uniform(count, generator, device, even=even).to(precision(device))
    return torch.lerp(u.new_tensor(log(low)), u.new_tensor(log(high)), u).exp().clamp(low, high)


@dataclass(frozen=True)
class Kind:
    """`settings`: what of `Levels` it reads, with its defaults. `ratios`: it draws rho."""

    draw: Callable[..., Tensor]
    settings: Mapping[str, float]
    ratios: bool = False


KINDS: dict[str, Kind] = {
    "uniform": Kind(uniform, {}),
    "logit-normal": Kind(logit_normal, {"mean": 0.0, "std": 1.0}),
    "mode": Kind(mode, {"scale": 1.29}),
    "cosmap": Kind(cosmap, {}),
    "log-normal": Kind(log_normal, {"mean": -1.2, "std": 1.2}, ratios=True),
    "log-uniform": Kind(log_uniform, {}, ratios=True),
}


@dataclass(frozen=True, kw_only=True)
class Levels:
    """A distribution by its name in `KINDS`, with its settings; none takes its default.

    `mean` and `std` are of logit t or of ln rho, `scale` is of mode. Raises NotFound for an
    unknown kind, InvalidValue for a setting out of range or one that the kind does not read.
    """

    kind: Literal["uniform", "logit-normal", "mode", "cosmap", "log-normal", "log-uniform"] = (
        "uniform"
    )
    mean: float | None = None
    std: float | None = None
    scale: float | None = None
    even: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("distribution of levels", self.kind, KINDS)
        values = settings_of(self, KINDS[self.kind].settings, ("mean", "std", "scale"))
        if not values.get("std", 1) > 0:
            raise InvalidValue(f"A std of {self.std:g} is not offered.", do="Choose one above 0.")
        low, high = MODE_RANGE
        if not low <= values.get("scale", 0) <= high:
            raise InvalidValue(
                f"The times of mode turn back at a scale of {self.scale:g}.",
                do=f"Choose one from {low:g} to {high:.3f}.",
            )


def draw(
    levels: Levels, path: Path, count: int, generator: torch.Generator, device: torch.device
) -> Places:
    """Places of `count` rows on a path. Raises InvalidValue if path and kind do not go together:
    times on a path without time, log-uniform ratios on one without a first or last."""
    kind = KINDS[levels.kind]
    values: dict[str, Any] = settings_of(levels, kind.settings, ())
    if kind.ratios:
        ends = path.end, path.start
        ratios = kind.draw(count, generator, device, **values, ends=ends, even=levels.even)
        return at_rhos(path, ratios)
    if not path.last:
        raise InvalidValue(
            f"{levels.kind} draws times, and a path of noise levels has none.",
            do="Choose log-normal or log-uniform.",
        )
    times = kind.draw(count, generator, device, **values, even=levels.even)
    if isinstance(path, VariancePreserving):
        steps = len(path.rhos)
        times = (times * steps).long().clamp(max=steps - 1)
    return at_times(path, times)


def settings_of(
    config: Any, defaults: Mapping[str, float], offered: tuple[str, ...]
) -> dict[str, float]:
    """What a config says of these settings, or their defaults. Raises InvalidValue for one of
    `offered` that is set and not read, and for one that is no finite number."""
    for name in offered:
        value = getattr(config, name)
        if value is not None and name not in defaults:
            reads = f"It reads {', '.join(defaults)}." if defaults else "It has no settings."
            raise InvalidValue(f"{config.kind} does not read {name}.", do=reads)
        if value is not None and not isfinite(value):
            raise InvalidValue(f"{name} cannot be {value}.", do="Choose a finite number.")
    said = {name: getattr(config, name) for name in defaults}
    return {name: defaults[name] if value is None else value for name, value in said.items()}


def _inner(u: Tensor) -> Tensor:
    """u without 0 and 1, whose normal quantiles are infinite."""
    return u.to(precision(u.device)).clamp(_SMALLEST, 1 - _SMALLEST)


def _normal_below(z: float) -> float:
    return (1 + erf(z / sqrt(2))) / 2


def _log(rho: float) -> float:
    return log(rho) if rho else -inf
