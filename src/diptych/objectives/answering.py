"""Next-token loss over answers."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from diptych.objectives.loss import Loss


def answer_loss(model: Any, batch: dict[str, Any], generator: torch.Generator) -> Loss:
    """Weighted cross-entropy of the answers' tokens.

    batch: image [B, 3, H, W] in -1..1; tokens, segments [B, L] int64 (several texts a picture,
    numbered); weights [B, L] of predicting each token from those before (0: prompt, padding).
    """
    tokens, weights = batch["tokens"], batch["weights"][:, 1:]
    prefix = model.look(batch["image"])
    logits = model.answer(prefix, tokens[:, :-1], batch["segments"][:, :-1]).float()
    losses = cross_entropy(logits.mT, tokens[:, 1:], reduction="none")
    counted = weights > 0
    right = ((logits.argmax(-1) == tokens[:, 1:]) & counted).sum() / counted.sum()
    return Loss((losses * weights).sum() / weights.sum(), {"token_accuracy": right.detach()})
