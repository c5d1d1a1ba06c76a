"""Averaged weights: an exponential moving average over the steps (Polyak and Juditsky, 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from diptych.training.schedule import average_decay


class Average:
    """The average of a model's trainable parameters; buffers are the model's own."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.weights: dict[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in self.parameters.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` steps (1 after the first)."""
        kept = average_decay(step, self.decay)
        weights: list[Tensor] = list(self.weights.values())
        parameters: list[Tensor] = list(self.parameters.values())
        # One call for all of them; torch offers it under no public name.
        torch._foreach_lerp_(weights, parameters, 1 - kept)  # pyright: ignore[reportPrivateImportUsage]

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        """Take the weights of a checkpoint."""
        for name, weight in self.weights.items():
            weight.copy_(weights[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model computes with the averaged weights inside, with its own again after."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def swap(self) -> None:
        """Exchange the model's weights and the averaged ones."""
        for name, parameter in self.parameters.items():
            self.weights[name], parameter.data = parameter.data, self.weights[name]
