"""Passes that are answered as one likes, and Gaussian data whose denoiser is known."""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.diffusion.guidance import Guidance, guided
from diptych.diffusion.paths import FlowPath, Node
from diptych.diffusion.predictions import to_x0

FLOW = FlowPath().at(0.6)
VP = Node(0.75, 0.8, 0.6, 500.0)
DATA = {"unconditional": (0.0, 4.0), "conditional": (1.5, 1.0)}  # mean, variance


def x0_of(x: Tensor, node: Node, mean: float, variance: float) -> Tensor:
    """E[x0 | x] of Gaussian data."""
    total = node.alpha**2 * variance + node.sigma**2
    return mean + node.alpha * variance / total * (x - node.alpha * mean)


def of_x0(prediction: str, x: Tensor, x0: Tensor, node: Node) -> Tensor:
    """The output that means this x0."""
    p, q = to_x0(prediction, node)
    return (x0 - p * x) / q


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Said:
    """A network that answers each pass with a fixed tensor, and a list of what it was asked."""

    def __init__(self, **answers: Tensor):
        self.answers, self.asked = answers, list[tuple[int, str]]()

    def __call__(self, x: Tensor, rows: list[int], passes: list[str]) -> Tensor:
        assert len(x) == len(rows) == len(passes)
        self.asked += zip(rows, passes, strict=True)
        return torch.stack([self.answers[name.replace("-", "_")] for name in passes])

    @property
    def names(self) -> list[str]:
        return [name for _, name in self.asked]


def one(
    guidance: Guidance,
    network: Said,
    node: Node = FLOW,
    prediction: str = "velocity",
    step: int = 9,
) -> Tensor:
    """The guided output of a single row whose x is 0.5 everywhere."""
    x = torch.full_like(next(iter(network.answers.values())), 0.5)[None]
    return guided(network, x, [guidance], [node], prediction, [step])[0][0]


C, U, V, W = (drawn(2, 5, 3, seed=k) for k in range(4))
