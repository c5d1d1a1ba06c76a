"""Where the rows of a batch stand on a path: `Path.at` and `Path.node` for tensors.

A path reckons with one float64 number; a batch has one a row, on its device, and must not wait
for it. Values are therefore not checked against the ends of the path: who draws them keeps to it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import inf, isinf
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diptych.diffusion.paths import FlowPath, Node, Path, VarianceExploding, VariancePreserving


class Places(NamedTuple):
    """x = alpha x0 + sigma noise and what the network is told, each [B], double precision."""

    alpha: Tensor
    sigma: Tensor
    time: Tensor

    @property
    def snr(self) -> Tensor:
        """(alpha / sigma)^2 [B]: 0 at noise alone, infinite at the data."""
        return (self.alpha / self.sigma).square()


def at_times(path: Path, times: Tensor) -> Places:
    """The places at times [B]: 0..1 of a flow, whole training steps of a discrete schedule.

    A path that is not known here is asked row by row, which waits for the device.
    """
    return _AT_TIMES.get(type(path), _asked_at)(path, times)


def at_rhos(path: Path, rhos: Tensor) -> Places:
    """The places with these ratios sigma / alpha [B], 0 to infinity; else as `at_times`."""
    return _AT_RHOS.get(type(path), _asked_of)(path, rhos.to(precision(rhos.device)))


def of_nodes(nodes: list[Node], device: torch.device | None = None) -> Places:
    """Nodes of a path as one batch."""
    kind = precision(device or torch.device("cpu"))
    columns = zip(*[(node.alpha, node.sigma, node.time) for node in nodes], strict=True)
    return Places(*[torch.tensor(column, dtype=kind, device=device) for column in columns])


def rows_of(values: Tensor, x: Tensor) -> Tensor:
    """A number a row, [B], in the dtype of x [B, ...] and shaped to multiply it."""
    return values.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def precision(device: torch.device) -> torch.dtype:
    """float64, except where a device has none."""
    return torch.float32 if device.type == "mps" else torch.float64


def _flow_at(path: Any, times: Tensor) -> Places:
    t = times.to(precision(times.device))
    return Places(1 - t, t, path.time_scale * (1 - t if path.reversed else t))


def _flow_of(path: Any, rhos: Tensor) -> Places:
    return _flow_at(path, torch.where(rhos.isinf(), 1.0, rhos / (1 + rhos)))


def _steps_at(path: Any, steps: Tensor) -> Places:
    if steps.is_floating_point():
        raise TypeError("a discrete schedule has whole steps; between them, give ratios")
    alphas, sigmas, _ = _schedule(path, steps.device)
    return Places(alphas[steps], sigmas[steps], steps.to(alphas.dtype))


def _steps_of(path: Any, rhos: Tensor) -> Places:
    """The time between two steps is linear in ln rho, and before noise alone linear in alpha, as
    in `VariancePreserving.node`."""
    alpha = (1 + rhos.square()).rsqrt()
    alphas, _, grid = _schedule(path, rhos.device)
    level = rhos.log().contiguous()
    above = torch.searchsorted(grid, level).clamp(1, len(grid) - 1)
    low, high = grid[above - 1], grid[above]
    inside = (above - 1 + (level - low) / (high - low)).clamp(0, len(grid) - 1)
    beyond = len(grid) - alpha / alphas[len(grid) - 1]
    time = torch.where(level > grid[-1], beyond, inside).clamp(max=len(path.rhos) - 1)
    return Places(alpha, torch.where(rhos.isinf(), 1.0, rhos * alpha), time)


@lru_cache(maxsize=8)
def _schedule(path: VariancePreserving, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """alpha, sigma of each step, and ln rho of those that are finite."""
    table = of_nodes([path.at(float(step)) for step in range(len(path.rhos))], device)
    finite = [rho for rho in path.rhos if not isinf(rho)]
    return table.alpha, table.sigma, table.alpha.new_tensor(finite).log()


def _exploding_of(path: Any, rhos: Tensor) -> Places:
    return Places(torch.ones_like(rhos), rhos, torch.where(rhos == 0, -inf, rhos.log() / 4))


def _asked_at(path: Any, times: Tensor) -> Places:
    return of_nodes([path.at(time) for time in times.tolist()], times.device)


def _asked_of(path: Any, rhos: Tensor) -> Places:
    return of_nodes([path.node(rho) for rho in rhos.tolist()], rhos.device)


_AT_TIMES: dict[type, Callable[[Any, Tensor], Places]] = {
    FlowPath: _flow_at,
    VariancePreserving: _steps_at,
}
_AT_RHOS: dict[type, Callable[[Any, Tensor], Places]] = {
    FlowPath: _flow_of,
    VariancePreserving: _steps_of,
    VarianceExploding: _exploding_of,
}
