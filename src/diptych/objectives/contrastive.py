"""Pictures and sentences of one batch must find each other: InfoNCE in both directions (van den
Oord et al., 2018, Radford et al., 2021), or a yes and no for every pair (Zhai et al., 2023).

Both can be taken over the batches of all processes of a parallel training, and in chunks of rows,
so that no matrix of all logits is ever kept; the value and the gradients are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid
from torch.utils.checkpoint import checkpoint

from diptych.objectives.gathering import first_row, gathered
from diptych.objectives.loss import Loss


def contrastive_loss(
    model: Any,
    batch: dict[str, Any],
    generator: torch.Generator,
    *,
    chunk: int = 0,
    gather: bool = False,
) -> Loss:
    """`info_nce` over the pairs of a batch.

    batch: image [B, 3, H, W] in -1..1; tokens int64, mask [B, L]; true [B, B], whether the
    sentence of the column is true of the picture of the row. `chunk` rows at a time, 0 for all at
    once. `gather`: each process's pairs stand among those of all, where a pair of two processes
    counts as wrong; else each has its own.
    """
    pictures, texts = _encoded(model, batch)
    # In bfloat16 a logit of 100 is half a unit coarse.
    with torch.autocast(pictures.device.type, enabled=False):
        if not chunk and not gather:
            return info_nce(model.scale * (pictures @ texts.T), batch["true"])
        return info_nce_of(pictures, texts, model.scale, batch["true"], chunk=chunk, gather=gather)


def sigmoid_loss(
    model: Any,
    batch: dict[str, Any],
    generator: torch.Generator,
    *,
    chunk: int = 0,
    gather: bool = False,
) -> Loss:
    """`pairwise_of` over the pairs of a batch, as contrastive_loss; the model also has a
    `logit_bias`."""
    pictures, texts = _encoded(model, batch)
    with torch.autocast(pictures.device.type, enabled=False):
        read = (model.scale, model.logit_bias)
        return pairwise_of(pictures, texts, *read, batch["true"], chunk=chunk, gather=gather)


def _encoded(model: Any, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    return model.encode_image(batch["image"]), model.encode_text(batch["tokens"], batch["mask"])


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


def info_nce_of(
    pictures: Tensor,
    texts: Tensor,
    scale: Tensor,
    true: Tensor,
    *,
    chunk: int = 0,
    gather: bool = False,
) -> Loss:
    """`info_nce` of vectors [B, D], `scale` times their cosines, true [B, B]."""

    def rows(own: Tensor, others: Tensor, scale: Tensor, true: Tensor, wanted: Tensor):
        logits = scale * (own @ others.T)
        mine = torch.zeros_like(true).scatter_(1, wanted[:, None], True)
        kept = logits.masked_fill(true & ~mine, float("-inf"))
        right = (kept.argmax(1) == wanted).to(logits.dtype).detach()
        return cross_entropy(kept, wanted, reduction="none"), right

    ways = []
    for own, others, known in ((pictures, texts, true), (texts, pictures, true.T)):
        everyone = gathered(others) if gather else others
        wanted = torch.arange(len(own), device=own.device) + (first_row(own) if gather else 0)
        held = _among(known, wanted, len(everyone))
        ways.append(_by_chunks(rows, own, everyone, (scale,), (held, wanted), chunk))
    (a, found), (b, read) = ways
    parts = {"picture_to_text": found.mean(), "text_to_picture": read.mean()}
    return Loss((a.mean() + b.mean()) / 2, parts)


def pairwise_of(
    pictures: Tensor,
    texts: Tensor,
    scale: Tensor,
    bias: Tensor,
    true: Tensor,
    *,
    chunk: int = 0,
    gather: bool = False,
) -> Loss:
    """-log sigmoid(z (scale cosine + bias)), summed over texts and averaged over pictures (Zhai et
    al., 2023, section 3.2); z is 1 where `true` [B, B], else -1. Vectors [B, D]."""

    def rows(
        own: Tensor, others: Tensor, scale: Tensor, bias: Tensor, true: Tensor, wanted: Tensor
    ):
        logits = scale * (own @ others.T) + bias
        sign = torch.where(true, 1.0, -1.0).to(logits.dtype)
        right = (logits.argmax(1) == wanted).to(logits.dtype).detach()
        return -logsigmoid(sign * logits).sum(1), right

    everyone = gathered(texts) if gather else texts
    wanted = torch.arange(len(texts), device=texts.device) + (first_row(texts) if gather else 0)
    held = _among(true, wanted, len(everyone))
    losses, right = _by_chunks(rows, pictures, everyone, (scale, bias), (held, wanted), chunk)
    return Loss(losses.mean(), {"picture_to_text": right.mean()})


def _among(true: Tensor, wanted: Tensor, count: int) -> Tensor:
    """[B, B] of one process -> [B, count] of its rows with the columns of all."""
    whole = torch.zeros(len(true), count, dtype=torch.bool, device=true.device)
    whole[:, wanted] = true
    return whole


def _by_chunks(
    rows: Callable[..., tuple[Tensor, Tensor]],
    own: Tensor,
    others: Tensor,
    read: tuple[Tensor, ...],
    told: tuple[Tensor, ...],
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """Two numbers for each row of `own`; with `chunk`, so many rows at a time, computed once more
    for their gradients."""
    if not chunk:
        return rows(own, others, *read, *told)
    made = [
        checkpoint(
            rows, own[at : at + chunk], others, *read,
            *(one[at : at + chunk] for one in told), use_reentrant=False,
        )
        for at in range(0, len(own), chunk)
    ]  # fmt: skip
    losses, right = zip(*made, strict=True)
    return torch.cat(losses), torch.cat(right)
