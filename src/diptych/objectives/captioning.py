"""Next-word losses of captioners."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from diptych.objectives.loss import Loss


def caption_loss(model: Any, batch: dict[str, Any], generator: torch.Generator) -> Loss:
    """Cross-entropy of each word after those before.

    batch: tokens [B, L] with their marks, mask [B, L] (True: a token), seen: features by kind.
    """
    logits = model(tokens=batch["tokens"][:, :-1], **batch["seen"])
    return Loss(next_words(logits, batch["tokens"], batch["mask"]))


def attentive_loss(
    model: Any, batch: dict[str, Any], generator: torch.Generator, *, weight: float
) -> Loss:
    """The same, and `weight` times the mean over places of (1 - sum_t alpha)^2 (Xu et al., 2015,
    equation 14): over a caption each place is looked at as much as any other."""
    logits, alphas = model.attended(tokens=batch["tokens"][:, :-1], **batch["seen"])
    mask = batch["mask"][:, 1:, None]
    looked = (alphas * mask).sum(1)
    # As many words as places would give 1 each; here they share what there is.
    even = mask.sum(1) / alphas.shape[-1]
    uneven = (even - looked).square().sum(1).mean()
    words = next_words(logits, batch["tokens"], batch["mask"])
    return Loss(words + weight * uneven, {"words": words.detach(), "uneven": uneven.detach()})


def next_words(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """logits [B, L - 1, V] of tokens [B, L] from the second on -> mean loss of those in the mask"""
    losses = cross_entropy(logits.float().mT, tokens[:, 1:], reduction="none")
    counted = mask[:, 1:]
    return (losses * counted).sum() / counted.sum()


def prefix_loss(model: Any, batch: dict[str, Any], generator: torch.Generator) -> Loss:
    """Of the words behind a prefix of drawn length, 0 to half of the batch's longest caption, which
    is read with the picture (SimVLM, Wang et al., 2022, equation 3)."""
    tokens, mask = batch["tokens"], batch["mask"]
    half = tokens.shape[1] // 2
    prefix = int(torch.randint(half + 1, (), generator=generator))
    logits = model.after(model.look(**batch["seen"]), tokens[:, :-1], prefix)
    return Loss(next_words(logits, tokens[:, prefix:], mask[:, prefix:]))
