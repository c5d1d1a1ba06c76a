"""The loss of a KL autoencoder."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from diptych.objectives.loss import Loss


def reconstruction_loss(
    model: nn.Module, image: Tensor, generator: torch.Generator, *, kl_weight: float
) -> Loss:
    """Mean absolute and squared error plus a weighted KL divergence to the unit Gaussian.

    `model(image, noise) -> (image, mean, log_variance)`; image [B, 3, H, W] in -1..1. The KL is
    a mean over latent values (Kingma and Welling, 2014, appendix B).
    """
    channels: int = cast(Any, model.config).latent_channels
    small = (len(image), channels, image.shape[2] // 8, image.shape[3] // 8)
    noise = torch.randn(small, generator=generator, device=image.device)
    again, mean, log_variance = model(image, noise)
    error = again.float() - image
    mean, log_variance = mean.float(), log_variance.float()
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    l1, l2 = error.abs().mean(), error.square().mean()
    total = l1 + 2 * l2 + kl_weight * kl
    return Loss(total, {"l1": l1.detach(), "l2": l2.detach(), "kl": kl.detach()})
