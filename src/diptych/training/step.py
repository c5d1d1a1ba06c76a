"""One step: batches to gradients to new weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from diptych.foundation.errors import DiptychError
from diptych.foundation.randomness import mix
from diptych.training.optimizers import optimizers_of, set_rates

if TYPE_CHECKING:
    from accelerate import Accelerator

    from diptych.training.plan import Plan

_OBJECTIVE, _DROPOUT = 0, 1  # streams of randomness of one batch


class Diverged(DiptychError):
    """The loss or its gradient is no finite number."""

    exit_code = 7


class _Task(nn.Module):
    """Model and objective as one module, so that autocast and data parallelism see both."""

    def __init__(self, model: nn.Module, objective: Callable[..., Any]):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        loss = self.objective(self.model, batch, generator)
        return {"loss": loss.total, **{name: part.detach() for name, part in loss.parts.items()}}


class Stepper:
    """Holds what changes from step to step: the prepared model and its optimizers."""

    def __init__(self, plan: Plan, accelerator: Accelerator, precision: str):
        self.settings, self.accelerator = plan.settings, accelerator
        model = plan.model
        if self.settings.compile:
            # Sentences differ in length; without `dynamic` each length would be compiled anew.
            model = cast(nn.Module, torch.compile(model, dynamic=True))
        task = _Task(model, plan.objective)
        prepared = accelerator.prepare(task, *optimizers_of(plan, precision))
        self.task, self.optimizers = prepared[0], list(prepared[1:])
        self.trained = [p for p in plan.model.parameters() if p.requires_grad]

    def indices(self, step: int) -> range:
        """The batches of this process from a step on to the end."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        each = self.settings.accumulation * world
        return range(step * each + rank, self.settings.steps * each, world)

    def step(self, step: int, batches: Iterator[Any]) -> dict[str, float]:
        """Make step `step` (0 is the first); returns means for the log. Raises Diverged.

        The weights are untouched when it raises.
        """
        factor = set_rates(self.optimizers, step, self.settings)
        world = self.accelerator.num_processes
        first = self.indices(step).start
        sums: dict[str, Tensor] = {}
        means: dict[str, float] = {}
        for part in range(self.settings.accumulation):
            with self.accelerator.accumulate(self.task):
                values = self._forward(next(batches), first + part * world)
                self.accelerator.backward(values["loss"])
                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + value.detach().float()
                if self.accelerator.sync_gradients:
                    means = self._means(sums, self._clip())
                    self._refuse_nonsense(means, step)
                    for optimizer in self.optimizers:
                        optimizer.step()
                        optimizer.zero_grad()
        return {**means, "rate": factor * self.settings.learning_rate}

    def _forward(self, batch: Any, index: int) -> dict[str, Tensor]:
        from accelerate.utils import send_to_device

        device, seed = self.accelerator.device, self.settings.seed
        generator = torch.Generator(device).manual_seed(mix(seed, index, _OBJECTIVE))
        _seed_dropout(device, mix(seed, index, _DROPOUT))
        return self.task(send_to_device(batch, device, non_blocking=True), generator)

    def _clip(self) -> Tensor:
        limit = self.settings.clip if self.settings.clip is not None else float("inf")
        norm = self.accelerator.clip_grad_norm_(self.trained, limit)
        return torch.as_tensor(norm)

    def _means(self, sums: dict[str, Tensor], norm: Tensor) -> dict[str, float]:
        """Over accumulation and processes; `norm` is that of the gradient before clipping."""
        stacked = torch.stack(list(sums.values())) / self.settings.accumulation
        stacked = cast(Tensor, self.accelerator.reduce(stacked, reduction="mean"))
        return {**dict(zip(sums, stacked.tolist(), strict=True)), "norm": float(norm)}

    def _refuse_nonsense(self, means: dict[str, float], step: int) -> None:
        # With loss scaling an infinite gradient is expected now and then: the scaler skips it.
        wanted = [means["loss"]] if self.accelerator.scaler else [means["loss"], means["norm"]]
        if not all(map(isfinite, wanted)):
            raise Diverged(
                f"Step {step + 1} gave loss {means['loss']:.4g} and a gradient of norm "
                f"{means['norm']:.4g}."
            )


def _seed_dropout(device: torch.device, seed: int) -> None:
    # torch.manual_seed asks every kind of device there might be: 1 ms, more than a small step.
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
