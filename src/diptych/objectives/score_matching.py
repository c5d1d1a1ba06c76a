"""Denoising score matching over a fixed list of noise levels (Song and Ermon, 2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from diptych.diffusion.paths import VarianceExploding
from diptych.foundation.errors import InvalidValue
from diptych.objectives.denoising import Denoising, bands, noised_at, squared_errors, widened
from diptych.objectives.loss import Loss
from diptych.objectives.places import at_rhos, rows_of


def geometric_sigmas(first: float = 1.0, last: float = 0.01, count: int = 10) -> tuple[float, ...]:
    """Noise levels that fall by one factor from `first` to `last` (section 5: 10 from 1 to 0.01).

    Raises InvalidValue for levels that do not fall.
    """
    if not first > last > 0 or count < 2:
        raise InvalidValue(
            f"{count} levels from {first:g} to {last:g} do not fall.",
            do="Give two or more, the first above the last, and that above 0.",
        )
    return tuple(map(float, np.geomspace(first, last, count)))


def score_matching_loss(
    score: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    generator: torch.Generator,
    *,
    sigmas: Sequence[float],
) -> Loss:
    """1/2 lambda |score + noise / sigma|^2 with lambda = sigma^2, at x = x0 + sigma noise.

    `score(x, sigma)`: x [B, ...], sigma [B], every level as often -> the gradient of ln p at x,
    [B, ...]. The weight makes this the loss of eps for a network that says -sigma score (eq. 5
    and 6, as a mean over the numbers of a row). Parts as in `denoising_loss`.
    """
    path = VarianceExploding(max(sigmas), min(sigmas))
    x0 = widened(x0)
    chosen = torch.randint(len(sigmas), (len(x0),), generator=generator, device=x0.device)
    at = at_rhos(path, torch.tensor(sigmas, device=x0.device)[chosen])
    noise = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
    point = noised_at(path, x0, noise, at, Denoising(prediction="eps"))
    said = score(point.x, at.sigma.to(point.x.dtype))
    squares = squared_errors(point, -rows_of(at.sigma, point.x) * said)
    return Loss(squares.mean() / 2, bands(squares, at))
