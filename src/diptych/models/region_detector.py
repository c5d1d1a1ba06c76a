"""A small two-stage detector (Faster R-CNN, Ren et al., 2015): a grid of features, a proposal in
each of its cells, and what is in each proposed box, with attributes as bottom-up attention wants
them (Anderson et al., 2018). One anchor a cell, boxes cut out of the grid by ROI-align."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, relu

from diptych.models.resnet import ResNet, ResNetConfig
from diptych.nn.boxes import overlaps

SAMPLES = 3  # points a side at which a box is read


@dataclass(frozen=True, kw_only=True)
class RegionDetectorConfig:
    """`labels`: kinds of each label of a region; of the first, 0 is "nothing". `regions` of a
    picture are kept, out of `proposals`, none overlapping a better one by more than `overlap`."""

    backbone: ResNetConfig = field(default_factory=ResNetConfig)
    width: int = 96
    labels: tuple[int, ...] = (9, 10, 3)
    proposals: int = 16
    regions: int = 8
    overlap: float = 0.5

    @classmethod
    def tiny(cls, **changes: Any) -> RegionDetectorConfig:
        small = cls(
            backbone=ResNetConfig.tiny(classes=0), width=12, labels=(4, 3), proposals=6, regions=3
        )
        return replace(small, **changes)


class Seen(NamedTuple):
    """What the detector sees: `grid` [B, C, h, w]; `proposed` [B, h * w, 5], logit and box of each
    cell; `boxes` [B, R, 4] and `regions` [B, R, D], best first. Boxes are center, width and height
    as shares of the picture."""

    grid: Tensor
    proposed: Tensor
    boxes: Tensor
    regions: Tensor


class RegionDetector(nn.Module):
    """A picture to a grid, boxes, and a vector and labels of each box."""

    def __init__(self, config: RegionDetectorConfig):
        super().__init__()
        self.config, channels = config, config.backbone.width
        self.backbone = ResNet(config.backbone)
        self.propose = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 5, 1)
        )
        self.region = nn.Sequential(
            nn.Linear(SAMPLES**2 * channels, config.width),
            nn.ReLU(),
            nn.Linear(config.width, config.width),
        )
        self.label_heads = nn.ModuleList(nn.Linear(config.width, n) for n in config.labels)

    def propose_in(self, grid: Tensor) -> Tensor:
        """grid [B, C, h, w] -> [B, h * w, 5]: logit that a thing's center lies in the cell, and
        its box, the center held within a cell of the cell."""
        made = self.propose(grid).flatten(2).mT
        height, width = grid.shape[2:]
        rows = torch.arange(height, device=grid.device).repeat_interleave(width)
        columns = torch.arange(width, device=grid.device).repeat(height)
        size = made.new_tensor([width, height])
        cells = (torch.stack([columns, rows], dim=-1) + 0.5) / size
        centers = cells + made[..., 1:3].tanh() / size
        return torch.cat([made[..., :1], centers, made[..., 3:].sigmoid()], dim=-1)

    def best(self, proposed: Tensor) -> Tensor:
        """proposed [B, N, 5] -> boxes [B, regions, 4]: greedy, best first, those that overlap a
        better one last."""
        config = self.config
        scores, order = proposed[..., 0].topk(config.proposals, dim=1)
        boxes = proposed[..., 1:].gather(1, order[..., None].expand(-1, -1, 4))
        covered = overlaps(boxes, boxes) > config.overlap
        kept = torch.ones_like(scores, dtype=torch.bool)
        for number in range(1, config.proposals):
            kept[:, number] = ~(covered[:, number, :number] & kept[:, :number]).any(1)
        places = torch.where(kept, 0, config.proposals) + torch.arange(
            config.proposals, device=scores.device
        )
        first = places.argsort(dim=1)[:, : config.regions]
        return boxes.gather(1, first[..., None].expand(-1, -1, 4))

    def describe(self, grid: Tensor, boxes: Tensor) -> Tensor:
        """grid [B, C, h, w], boxes [B, R, 4] -> [B, R, D]: the grid read at points of each box."""
        steps = (torch.arange(SAMPLES, device=grid.device) + 0.5) / SAMPLES - 0.5
        ys, xs = torch.meshgrid(steps, steps, indexing="ij")
        points = torch.stack([xs, ys], dim=-1).flatten(0, 1).to(boxes.dtype)
        at = boxes[:, :, None, :2] + points * boxes[:, :, None, 2:]
        # One dtype for both, whatever autocast made of the grid.
        read = grid_sample(grid.float(), 2 * at.float() - 1, align_corners=False)
        return relu(self.region(read.permute(0, 2, 3, 1).flatten(2).to(grid.dtype)))

    def labels(self, regions: Tensor) -> list[Tensor]:
        """regions [B, R, D] -> logits [B, R, kinds] of each label"""
        return [head(regions) for head in self.label_heads]

    def see(self, image: Tensor) -> Seen:
        """image [B, 3, H, W] in -1..1"""
        grid = self.backbone.features(image)
        proposed = self.propose_in(grid)
        boxes = self.best(proposed.detach())
        return Seen(grid, proposed, boxes, self.describe(grid, boxes))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """image [B, 3, H, W] in -1..1 -> proposals [B, N, 5], boxes [B, R, 4], logits of labels"""
        seen = self.see(image)
        return seen.proposed, seen.boxes, self.labels(seen.regions)
