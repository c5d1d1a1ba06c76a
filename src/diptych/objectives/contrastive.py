"""Pictures and sentences of one batch must find each other (InfoNCE in both directions; van den
Oord et al., 2018, Radford et al., 2021)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from diptych.objectives.loss import Loss


def contrastive_loss(model: Any, batch: dict[str, Any], generator: torch.Generator) -> Loss:
    """`info_nce` over the pairs of a batch; each process of a parallel training has its own.

    batch: image [B, 3, H, W] in -1..1; tokens int64, mask [B, L]; true [B, B], whether the
    sentence of the column is true of the picture of the row.
    """
    pictures = model.encode_image(batch["image"])
    texts = model.encode_text(batch["tokens"], batch["mask"])
    # In bfloat16 a logit of 100 is half a unit coarse.
    with torch.autocast(pictures.device.type, enabled=False):
        return info_nce(model.scale * (pictures @ texts.T), batch["true"])


def info_nce(logits: Tensor, true: Tensor) -> Loss:
    """Mean cross-entropy of the diagonal among its row and among its column.

    logits [B, B] of pictures (rows) with texts (columns), true [B, B] bool. A pair that is true
    and not on the diagonal is no wrong answer: it is left out of both sums.
    """
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    kept = logits.masked_fill(true & ~own, float("-inf"))
    wanted = torch.arange(len(logits), device=logits.device)
    total = (cross_entropy(kept, wanted) + cross_entropy(kept.T, wanted)) / 2
    return Loss(
        total,
        {
            "picture_to_text": (kept.argmax(1) == wanted).float().mean().detach(),
            "text_to_picture": (kept.argmax(0) == wanted).float().mean().detach(),
        },
    )
