"""Rectified flow (Liu et al., 2022; Lipman et al., 2022) with logit-normal times, and beside it
what lies where in a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from diptych.diffusion.paths import FlowPath
from diptych.objectives.denoising import Denoising, noised, squared_errors
from diptych.objectives.levels import Levels
from diptych.objectives.loss import Loss


def flow_loss(
    velocity: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]],
    x0: Tensor,
    generator: torch.Generator,
    *,
    mean: float,
    std: float,
    layout: Tensor | None = None,
    layout_sizes: tuple[int, ...] = (),
    layout_weight: float = 0.0,
) -> Loss:
    """Mean squared error of the velocity noise - x0 at x = (1 - t) x0 + t noise.

    x0 [B, C, H, W]; `velocity(x, t)` also gives layout logits [B, N, S * sum(layout_sizes)] or
    None; `layout` [B, N, S, len(layout_sizes)] int64 is the class of each of the S parts of a
    token by each trait, learned beside (a hint of what lies where makes binding easier).
    """
    times = Levels(kind="logit-normal", mean=mean, std=std)
    point = noised(FlowPath(), x0, generator, Denoising(prediction="velocity", levels=times))
    predicted, logits = velocity(point.x, point.time)
    flow = squared_errors(point, predicted).mean()
    parts = {"flow": flow.detach()}
    total = flow
    if layout is not None and logits is not None:
        traits = logits.float().unflatten(-1, (layout.shape[2], -1)).split(layout_sizes, dim=-1)
        entropies = [
            cross_entropy(trait.flatten(0, 2), layout[..., i].flatten())
            for i, trait in enumerate(traits)
        ]
        entropy = cast(Tensor, sum(entropies)) / len(traits)
        parts["layout"] = entropy.detach()
        total = total + layout_weight * entropy
    return Loss(total, parts)
