"""The loss of a network that removes noise, for every prediction, path, level and weight.

    x = alpha x0 + sigma noise      loss = mean over the batch of w |target - network(x, time)|^2

(Ho et al., 2020; Salimans and Ho, 2022; Lipman et al., 2022; Karras et al., 2022.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from diptych.diffusion.paths import FlowPath, Path
from diptych.foundation.errors import InvalidValue, unknown
from diptych.objectives.levels import Levels, draw
from diptych.objectives.loss import Loss
from diptych.objectives.places import Places, rows_of
from diptych.objectives.weights import PREDICTIONS, SIGMA_DATA, Prediction, Weight, check, weights

BANDS = ("low_noise", "mid_noise", "high_noise")


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """What a network predicts, at which levels, and what each counts.

    `offset`: strength of a constant added to the noise of each channel, so that a network learns
    to change the mean of a picture (Guttenberg, 2023); 0 for none, usually 0.05 to 0.1.
    `sigma_data`: spread of the data, only where prediction or weight is edm (0.5).
    Raises NotFound for an unknown prediction, InvalidValue for values out of range or not read.
    """

    prediction: Prediction = "velocity"
    levels: Levels = field(default_factory=Levels)
    weight: Weight = field(default_factory=Weight)
    offset: float = 0.0
    sigma_data: float | None = None

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise unknown("prediction", self.prediction, PREDICTIONS)
        if not 0 <= self.offset <= 1:
            raise InvalidValue(f"An offset of {self.offset:g} is not offered.", do="0 to 1 are.")
        if self.sigma_data is not None and "edm" not in (self.prediction, self.weight.kind):
            raise InvalidValue(
                f"A prediction of {self.prediction} with a weight of {self.weight.kind} does not "
                "read sigma_data.",
                do="Leave it out, or let one of them be edm.",
            )
        if not self.spread > 0:
            raise InvalidValue(f"A sigma_data of {self.spread:g} is not offered.", do="Above 0.")

    @property
    def spread(self) -> float:
        """`sigma_data` or its default."""
        return SIGMA_DATA if self.sigma_data is None else self.sigma_data


class Noised(NamedTuple):
    """What a network is asked and should say.

    `x` [B, ...] and `time` [B] go in, `target` [B, ...] should come out, `weight` [B] is on the
    squared error, `at` the places of the rows.
    """

    x: Tensor
    time: Tensor
    target: Tensor
    weight: Tensor
    at: Places


def denoising_loss(
    model: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    generator: torch.Generator,
    *,
    path: Path,
    config: Denoising,
) -> Loss:
    """`model(x, time) -> out`, x0 [B, ...]. The parts are the network's own mean squared error,
    without weights, in each third of the batch by noise level; none for fewer than 3 rows.

    Raises InvalidValue where path, levels, prediction and weight do not go together.
    """
    point = noised(path, x0, generator, config)
    squares = squared_errors(point, model(point.x, point.time))
    return Loss((squares * rows_of(point.weight, squares)).mean(), bands(squares, point.at))


def noised(path: Path, x0: Tensor, generator: torch.Generator, config: Denoising) -> Noised:
    """A level and noise for each row: first all levels are drawn, then the noise, then its offset.

    x0 [B, ...]; in half precision it is widened to float32.
    """
    x0 = widened(x0)
    at = draw(config.levels, path, len(x0), generator, x0.device)
    noise = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
    if config.offset:
        if x0.ndim < 3:
            raise InvalidValue(
                f"An offset is one of channels [B, C, ...]; rows of shape {list(x0.shape[1:])} "
                "have none.",
                do="Set offset to 0.",
            )
        shape = (*x0.shape[:2], *[1] * (x0.ndim - 2))
        constant = torch.randn(shape, generator=generator, device=x0.device, dtype=x0.dtype)
        noise = noise + config.offset * constant
    return noised_at(path, x0, noise, at, config)


def noised_at(path: Path, x0: Tensor, noise: Tensor, at: Places, config: Denoising) -> Noised:
    """Data and noise [B, ...] mixed at given places of a path."""
    check(path, config.prediction, config.weight, config.spread)
    alpha, sigma = rows_of(at.alpha, x0), rows_of(at.sigma, x0)
    # alpha = 1 - t: one operation, and exact at both ends.
    x = torch.lerp(x0, noise, sigma) if isinstance(path, FlowPath) else alpha * x0 + sigma * noise
    target = _TARGETS[config.prediction](x0, noise, alpha, sigma, config.spread)
    if config.prediction == "edm":
        x = x / (sigma.square() + config.spread**2).sqrt()
    weight = weights(config.weight, config.prediction, at, config.spread)
    return Noised(x, at.time.to(x0.dtype), target, weight, at)


def widened(x0: Tensor) -> Tensor:
    """x0 in single precision or better: noise is not mixed in half."""
    return x0 if x0.dtype == torch.float64 else x0.float()


def squared_errors(point: Noised, out: Tensor) -> Tensor:
    """Of what the network said, [B, ...], without weights, in the precision of the target."""
    return (out.to(point.target.dtype) - point.target).square()


def bands(squares: Tensor, at: Places) -> dict[str, Tensor]:
    """The mean of squares [B, ...] in each third of the rows by noise level.

    Thirds of what was drawn and not fixed ranges of level: a range could be empty, and to find
    that out one would have to wait for the device.
    """
    if len(squares) < len(BANDS):
        return {}
    rows = squares.detach().flatten(1).mean(1)[(at.sigma / at.alpha).argsort()]
    return {
        name: third.mean() for name, third in zip(BANDS, rows.tensor_split(len(BANDS)), strict=True)
    }


def _edm(x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor, spread: float) -> Tensor:
    """(x0 - c_skip x) / c_out without its 0 / 0 at sigma = 0 (Karras et al., 2022, eq. 8)."""
    return (sigma / spread * x0 - spread * noise) / (sigma.square() + spread**2).sqrt()


_TARGETS: Mapping[str, Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]] = {
    "eps": lambda x0, noise, alpha, sigma, spread: noise,
    "v": lambda x0, noise, alpha, sigma, spread: alpha * noise - sigma * x0,
    "x0": lambda x0, noise, alpha, sigma, spread: x0,
    "velocity": lambda x0, noise, alpha, sigma, spread: noise - x0,
    "edm": _edm,
}
