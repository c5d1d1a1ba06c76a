"""Consistency models: one call from any noise level to the data (Song et al., 2023a), trained
from data as improved by Song and Dhariwal, 2023b, or distilled from a teacher.

x = x0 + sigma noise. The consistency function f takes every point of a probability flow to its
end at sigma_min, so that it says the same at two neighbours of one flow: that is the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import floor, inf, log2, sqrt
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from diptych.foundation.errors import InvalidValue, unknown
from diptych.objectives.denoising import widened
from diptych.objectives.loss import Loss
from diptych.objectives.places import precision, rows_of
from diptych.objectives.weights import SIGMA_DATA

# A raw network, (x scaled to unit spread, ln(sigma) / 4) -> [B, ...]; a denoiser, (x, sigma) -> x0.
Network = Callable[[Tensor, Tensor], Tensor]
Denoiser = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """Levels, pairs and distance; the defaults are those of training from data (2023b, table 1).

    sigma is even in its `power`-th root between `sigma_min` and `sigma_max`. `pairs`: log-normal
    takes a pair of neighbours by the share of N(mean, std^2) between their ln sigma, uniform each
    as often. `weight`: inverse-gap is 1 / (sigma_high - sigma_low). `huber`: c of the distance
    sqrt(|d|^2 + c^2) - c, times the root of the numbers of a row. Distillation as published
    (2023a) has uniform pairs and weights. Raises InvalidValue for values out of range.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    power: float = 7.0
    sigma_data: float = SIGMA_DATA
    pairs: Literal["log-normal", "uniform"] = "log-normal"
    mean: float = -1.1
    std: float = 2.0
    weight: Literal["inverse-gap", "uniform"] = "inverse-gap"
    huber: float = 0.00054

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < inf:
            raise InvalidValue(f"{self.sigma_min:g} to {self.sigma_max:g} are no noise levels.")
        for name in ("power", "sigma_data", "std", "huber"):
            if not getattr(self, name) > 0:
                raise InvalidValue(f"A {name} of {getattr(self, name):g} is not above 0.")
        for name, known in {"pairs": _PAIRS, "weight": _WEIGHTS}.items():
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)


class Pairs(NamedTuple):
    """Two neighbouring noise levels a row, [B] each."""

    high: Tensor
    low: Tensor


def level_count(step: int, steps: int, *, first: int = 10, last: int = 1280) -> int:
    """N(k), how many levels there are at a step of training: `first` + 1, doubled at equal
    distances, at most `last` + 1 (2023b, section 3.4)."""
    if not 0 <= step < steps or not 1 <= first <= last:
        raise InvalidValue(f"Step {step} of {steps} with {first} to {last} levels is not offered.")
    stay = max(floor(steps / (log2(last // first) + 1)), 1)
    return min(first * 2 ** (step // stay), last) + 1


def sigma_levels(config: Consistency, count: int, device: torch.device) -> Tensor:
    """`count` noise levels, rising, float64 (Karras et al., 2022, eq. 5); both ends exact."""
    if count < 2:
        raise InvalidValue(f"{count} levels have no neighbours.", do="Take 2 or more.")
    low, high = config.sigma_min, config.sigma_max
    share = torch.linspace(0, 1, count, dtype=precision(device), device=device)
    root = low ** (1 / config.power) * (1 - share) + high ** (1 / config.power) * share
    levels = root**config.power
    levels[0], levels[-1] = low, high
    return levels


def draw_pairs(
    config: Consistency, levels: Tensor, count: int, generator: torch.Generator
) -> Pairs:
    """Neighbours among `levels` [N] for `count` rows (2023b, section 3.5)."""
    chances = _PAIRS[config.pairs](config, levels)
    chosen = torch.multinomial(chances, count, replacement=True, generator=generator)
    return Pairs(levels[chosen + 1], levels[chosen])


def consistent(network: Network, x: Tensor, sigma: Tensor, config: Consistency) -> Tensor:
    """f(x, sigma) = c_skip x + c_out network(c_in x, ln(sigma) / 4), which is x at sigma_min
    (2023a, appendix C). x [B, ...], sigma [B]."""
    above, spread = rows_of(sigma - config.sigma_min, x), config.sigma_data
    inner = (rows_of(sigma, x).square() + spread**2).rsqrt()
    time = (sigma.log() / 4).to(x.dtype)
    skip = spread**2 / (above.square() + spread**2)
    return skip * x + spread * above * inner * network(inner * x, time).to(x.dtype)


def consistency_errors(
    student: Network, target: Network, x: Pairs, sigma: Pairs, config: Consistency
) -> Tensor:
    """Distances [B] between f of the student at the noisier point and f of the target at the
    other, x [B, ...] each. No gradient reaches the target."""
    with torch.no_grad():
        wanted = consistent(target, x.low, sigma.low, config)
    apart = (consistent(student, x.high, sigma.high, config) - wanted).flatten(1)
    c = config.huber * sqrt(apart.shape[1])
    return (apart.square().sum(1) + c * c).sqrt() - c


def consistency_training_loss(
    network: Network, x0: Tensor, generator: torch.Generator, *, levels: int, config: Consistency
) -> Loss:
    """From data alone: both points of a pair have the same data and noise, and the network is its
    own target (2023b, section 3.2). x0 [B, ...]; `levels` as `level_count` says.

    A network with dropout draws a mask for each point; the paper uses one for both.
    """
    x0, noise, sigma = _begun(x0, generator, levels, config)
    x = Pairs(*[x0 + rows_of(level, x0) * noise for level in sigma])
    return _loss(consistency_errors(network, network, x, sigma, config), sigma, config)


def distillation_loss(
    student: Network,
    target: Network,
    move: Callable[[Tensor, Pairs], Tensor],
    x0: Tensor,
    generator: torch.Generator,
    *,
    levels: int,
    config: Consistency,
) -> Loss:
    """The other point of a pair is where a teacher takes the first (2023a, algorithm 2).

    `move(x, sigma)` is one step along the teacher's flow from the high level to the low one:
    `partial(heun_step, teacher)` or another of `STEPS`. `target` is an average of the student,
    see `follow`. x0 [B, ...].
    """
    x0, noise, sigma = _begun(x0, generator, levels, config)
    x = x0 + rows_of(sigma.high, x0) * noise
    with torch.no_grad():
        there = move(x, sigma)
    errors = consistency_errors(student, target, Pairs(x, there), sigma, config)
    return _loss(errors, sigma, config)


def euler_step(teacher: Denoiser, x: Tensor, sigma: Pairs) -> Tensor:
    """dx / dsigma = (x - teacher) / sigma, from the high level to the low one."""
    slope = (x - teacher(x, sigma.high.to(x.dtype))) / rows_of(sigma.high, x)
    return x + rows_of(sigma.low - sigma.high, x) * slope


def heun_step(teacher: Denoiser, x: Tensor, sigma: Pairs) -> Tensor:
    """The mean of the slopes at both ends (Karras et al., 2022, algorithm 1)."""
    slope = (x - teacher(x, sigma.high.to(x.dtype))) / rows_of(sigma.high, x)
    gap = rows_of(sigma.low - sigma.high, x)
    there = x + gap * slope
    other = (there - teacher(there, sigma.low.to(x.dtype))) / rows_of(sigma.low, x)
    return x + gap * (slope + other) / 2


STEPS: dict[str, Callable[[Denoiser, Tensor, Pairs], Tensor]] = {
    "euler": euler_step,
    "heun": heun_step,
}


@torch.no_grad()
def follow(target: nn.Module, student: nn.Module, decay: float) -> None:
    """target <- decay target + (1 - decay) student, in place; buffers are copied."""
    for mine, new in zip(target.parameters(), student.parameters(), strict=True):
        mine.lerp_(new.to(mine.dtype), 1 - decay)
    for mine, new in zip(target.buffers(), student.buffers(), strict=True):
        mine.copy_(new)


def _begun(
    x0: Tensor, generator: torch.Generator, levels: int, config: Consistency
) -> tuple[Tensor, Tensor, Pairs]:
    x0 = widened(x0)
    sigma = draw_pairs(config, sigma_levels(config, levels, x0.device), len(x0), generator)
    noise = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
    return x0, noise, sigma


def _loss(errors: Tensor, sigma: Pairs, config: Consistency) -> Loss:
    weight = _WEIGHTS[config.weight](sigma).to(errors.dtype)
    return Loss((weight * errors).mean(), {"distance": errors.detach().mean()})


def _share_between(config: Consistency, levels: Tensor) -> Tensor:
    below = torch.special.ndtr((levels.log() - config.mean) / config.std)
    return below.diff()


_PAIRS: dict[str, Callable[[Consistency, Tensor], Tensor]] = {
    "log-normal": _share_between,
    "uniform": lambda config, levels: torch.ones_like(levels[1:]),
}
_WEIGHTS: dict[str, Callable[[Pairs], Tensor]] = {
    "inverse-gap": lambda sigma: 1 / (sigma.high - sigma.low),
    "uniform": lambda sigma: torch.ones_like(sigma.high),
}
