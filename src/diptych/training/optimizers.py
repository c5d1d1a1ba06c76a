"""Which parameter gets which optimizer, rate and decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from diptych.training.plan import Plan, Settings
from diptych.training.schedule import rate_factor


def optimizers_of(plan: Plan, precision: str) -> list[torch.optim.Optimizer]:
    """AdamW, preceded by Muon where the settings ask for it, over all trainable parameters.

    Muon is torch's, which orthogonalizes matrix by matrix. Stacking matrices of one shape was
    measured on a CPU: twice as fast at width 64, equal at 128 and 192, slower from 256 on.
    """
    settings = plan.settings
    muon: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    slow: list[nn.Parameter] = []
    for name, parameter in plan.model.named_parameters():
        if not parameter.requires_grad:
            continue
        if plan.slow_parameters(name, parameter):
            slow.append(parameter)
        elif settings.optimizer == "muon" and parameter.ndim == 2:
            muon.append(parameter)
        else:
            decayed.append(parameter)
    optimizers: list[torch.optim.Optimizer] = []
    if muon:
        rate = settings.muon_learning_rate
        optimizers.append(torch.optim.Muon(muon, lr=rate, weight_decay=settings.weight_decay))
    if decayed or slow:
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": slow, "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        rate = settings.learning_rate
        # Fused is 3 to 6 times as fast on a CPU. With loss scaling it would unscale by itself.
        kind = {"foreach": True} if precision == "fp16" else {"fused": True}
        optimizers.append(torch.optim.AdamW(groups, lr=rate, betas=settings.betas, **kind))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["full_rate"] = group["lr"]
    return optimizers


def set_rates(optimizers: Iterable[Any], step: int, settings: Settings) -> float:
    """Set each group's rate for this step; returns the factor on the full rate."""
    factor = rate_factor(
        step,
        steps=settings.steps,
        warmup=settings.warmup,
        final_fraction=settings.final_fraction,
    )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["full_rate"] * factor
    return factor


def state_of(optimizers: Iterable[Any], names: Mapping[nn.Parameter, str]) -> dict[str, Tensor]:
    """All state tensors, by `parameter name:key`."""
    return {
        f"{names[parameter]}:{key}": value
        for optimizer in optimizers
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_state(
    optimizers: Iterable[Any], names: Mapping[nn.Parameter, str], tensors: dict[str, Tensor]
) -> None:
    """Give each optimizer back what `state_of` took."""
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, part = key.rpartition(":")
        # A copy: the file behind these tensors is deleted with its checkpoint.
        by_parameter.setdefault(name, {})[part] = value.clone()
    for optimizer in optimizers:
        plain = optimizer.state_dict()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        plain["state"] = {
            i: by_parameter[names[parameter]]
            for i, parameter in enumerate(parameters)
            if names[parameter] in by_parameter
        }
        optimizer.load_state_dict(plain)
