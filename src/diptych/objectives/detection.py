"""The four losses of a two-stage detector (Ren et al., 2015, equation 1, for both stages)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from diptych.nn.boxes import overlaps
from diptych.objectives.loss import Loss

NEAR = 0.5  # overlap from which on a box is that of a thing
BOX_WEIGHT = 5.0


def detection_loss(model: Any, batch: dict[str, Any], generator: torch.Generator) -> Loss:
    """Proposals: whether a thing's center lies in a cell, and its box. Regions: their labels.

    batch: image [B, 3, H, W] in -1..1; boxes [B, T, 4] (center, width, height; 0..1); labels
    [B, T, K], of each thing, the first one from 1 on; -100 where there is no thing.
    """
    boxes, labels = batch["boxes"], batch["labels"]
    there = labels[..., 0] > 0
    grid = model.backbone.features(batch["image"])
    proposed = model.propose_in(grid).float()
    wanted, near = _cells(boxes, there, grid.shape[2:])
    objectness = binary_cross_entropy_with_logits(proposed[..., 0], wanted)
    error = (proposed[..., 1:] - near).abs().sum(-1)
    box = (error * wanted).sum() / wanted.sum().clamp(min=1)
    # Both are described: the true ones so that labels are learned before proposals are good.
    best = model.best(proposed.detach())
    asked = torch.cat([boxes, best], dim=1)
    truth = torch.cat([labels, _labels_of(best, boxes, labels)], dim=1)
    logits = model.labels(model.describe(grid, asked))
    each = [
        cross_entropy(part.float().flatten(0, 1), truth[..., number].flatten())
        for number, part in enumerate(logits)
    ]
    label = torch.stack(each).sum()
    parts = {"objectness": objectness, "box": box, "label": label}
    total = 10 * objectness + BOX_WEIGHT * box + label
    return Loss(total, {name: part.detach() for name, part in parts.items()})


def _cells(boxes: Tensor, there: Tensor, size: torch.Size) -> tuple[Tensor, Tensor]:
    """Which cells hold a center [B, N], 0 or 1, and the box of that thing [B, N, 4]."""
    height, width = size
    cells = (boxes[..., 1] * height).long() * width + (boxes[..., 0] * width).long()
    # What is not there goes into a cell behind the last.
    cells = torch.where(there, cells, height * width)
    wanted = boxes.new_zeros(len(boxes), height * width + 1).scatter(1, cells, 1.0)
    near = boxes.new_zeros(len(boxes), height * width + 1, 4)
    near = near.scatter(1, cells[..., None].expand(-1, -1, 4), boxes)
    return wanted[:, :-1], near[:, :-1]


def _labels_of(found: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """Labels [B, R, K] of found boxes: of the thing that one overlaps most, or "nothing" (0), whose
    other labels are not asked for (-100)."""
    there = labels[..., 0] > 0
    shared = overlaps(found, boxes).masked_fill(~there[:, None], 0.0)
    most, which = shared.max(dim=-1)
    same = labels.gather(1, which[..., None].expand(-1, -1, labels.shape[-1]))
    nothing = torch.full_like(same, -100)
    nothing[..., 0] = 0
    return torch.where((most >= NEAR)[..., None], same, nothing)
