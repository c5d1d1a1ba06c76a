"""`captioner-eyes`: the detector whose features all captioners see, and those features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from diptych.checkpoints.folder import load_network, write_network
from diptych.data.scenes import vocabulary as v
from diptych.data.scenes.render import render
from diptych.data.scenes.world import Scene
from diptych.foundation.randomness import mix
from diptych.models.dual_encoder import DualEncoderNetwork
from diptych.models.region_detector import RegionDetector, RegionDetectorConfig
from diptych.nn.boxes import overlaps
from diptych.objectives.detection import NEAR, detection_loss
from diptych.pipelines.reference import folder_of
from diptych.recipes.captioners.sayings import SETS, WORLD, Set
from diptych.recipes.captioners.seen import write_seen
from diptych.recipes.scenes_batches import to_image
from diptych.training.plan import Plan, Settings

_COLORS, _SIZES = tuple(v.COLORS), tuple(v.SIZES)


@dataclass(frozen=True, kw_only=True)
class CaptionerEyes:
    """Cost and score: see docs/captioners.md. `clip`: the dual encoder whose vectors and patches
    are kept beside the detector's."""

    batch: int = 48
    clip: str = "scenes-clip"
    model: RegionDetectorConfig = RegionDetectorConfig()
    training: Settings = Settings(
        steps=1500, learning_rate=3e-3, warmup=40, trackers=(), workers=0, threads=1
    )

    def build(self) -> Plan:
        torch.manual_seed(mix(self.training.seed))
        return Plan(
            model=RegionDetector(self.model),
            objective=detection_loss,
            batch_at=partial(things_seen, SETS["train"], self.batch),
            settings=self.training,
            probes={name: partial(_probe, SETS[name]) for name in ("tune", "heldout")},
        )

    def finish(self, plan: Plan, run: Path) -> None:
        """Writes the detector and what it sees of all sets."""
        detector = cast(RegionDetector, plan.model).eval()
        write_network(run / "detector", detector)
        clip = load_network(folder_of(self.clip) / "encoder", DualEncoderNetwork)
        write_seen(run / "seen", detector, clip)


def things_seen(some: Set, count: int, index: int) -> dict[str, Tensor]:
    """Batch `index`, over the set again and again: image [B, 3, H, W], boxes [B, T, 4], labels
    [B, T, 3]."""
    scenes = [some.scene((index * count + row) % some.count) for row in range(count)]
    image = to_image([render(scene, WORLD.size) for scene in scenes])
    return {"image": image} | things_of(scenes)


def things_of(scenes: list[Scene]) -> dict[str, Tensor]:
    """boxes [B, most, 4] (center, width and height as shares of the picture); labels [B, most, 3]:
    shape from 1 on, color, size; -100 where there is no thing"""
    boxes = torch.zeros(len(scenes), WORLD.most, 4)
    labels = torch.full((len(scenes), WORLD.most, 3), -100)
    for row, scene in enumerate(scenes):
        for number, thing in enumerate(scene.things):
            sides = 2 * thing.radius
            boxes[row, number] = torch.tensor([thing.x, thing.y, sides, sides]) / v.UNITS
            kinds = v.SHAPES.index(thing.shape) + 1, _COLORS.index(thing.color)
            labels[row, number] = torch.tensor([*kinds, _SIZES.index(thing.size)])
    return {"boxes": boxes, "labels": labels}


def _probe(some: Set, model: nn.Module, step: int, folder: Path) -> Mapping[str, float]:
    """The share of things that a box lies on (overlap from NEAR on), and whose best box is labelled
    right besides."""
    detector = cast(RegionDetector, model)
    there = found = right = 0
    for index in range(some.count // 100):
        batch = things_seen(some, 100, index)
        _, boxes, logits = detector(batch["image"])
        is_there = batch["labels"][..., 0] > 0
        shared, which = overlaps(batch["boxes"], boxes.float()).max(dim=-1)
        said = torch.stack([part.argmax(-1).gather(1, which) for part in logits], dim=-1)
        near = (shared >= NEAR) & is_there
        there += int(is_there.sum())
        found += int(near.sum())
        right += int((near & (said == batch["labels"]).all(-1)).sum())
    return {"found": found / there, "right": right / there}
