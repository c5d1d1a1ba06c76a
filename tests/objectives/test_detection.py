"""The detector's loss: nothing where all is right, and each part grows with its own mistake."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diptych.objectives.detection import detection_loss
from diptych.objectives.loss import Loss

HEIGHT, WIDTH = 4, 5
KINDS = (3, 2)
# Two pictures: two things; one thing, and a place where there is none.
BOXES = torch.tensor(
    [[[0.3, 0.3, 0.2, 0.2], [0.8, 0.6, 0.3, 0.2]], [[0.6, 0.1, 0.2, 0.2], [0.0, 0.0, 0.0, 0.0]]]
)
LABELS = torch.tensor([[[1, 0], [2, 1]], [[2, 0], [-100, -100]]])
# Row of the batch, cell that holds the center, number of the thing.
CELLS = [(0, 1 * WIDTH + 1, 0), (0, 2 * WIDTH + 4, 1), (1, 0 * WIDTH + 3, 0)]


class Told(nn.Module):
    """A detector that says what it was told, sharply."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = SimpleNamespace(features=lambda image: torch.zeros(2, 1, HEIGHT, WIDTH))
        self.proposed = torch.full((2, HEIGHT * WIDTH, 5), -20.0)
        for row, cell, number in CELLS:
            self.proposed[row, cell] = torch.tensor([20.0, *BOXES[row, number]])
        # The second proposal of the first picture lies on nothing.
        nothing = torch.tensor([0.5, 0.9, 0.1, 0.1])
        self.found = torch.stack([torch.stack([BOXES[0, 1], nothing]), BOXES[1, [0, 0]]])
        said = torch.tensor([[[2, 1], [0, 0]], [[2, 0], [2, 0]]])
        self.said = torch.cat([LABELS.clamp(min=0), said], dim=1)

    def propose_in(self, grid: Tensor) -> Tensor:
        return self.proposed

    def best(self, proposed: Tensor) -> Tensor:
        return self.found

    def describe(self, grid: Tensor, boxes: Tensor) -> Tensor:
        assert torch.equal(boxes, torch.cat([BOXES, self.found], dim=1))
        return boxes

    def labels(self, regions: Tensor) -> list[Tensor]:
        kinds = zip(self.said.unbind(-1), KINDS, strict=True)
        return [40.0 * nn.functional.one_hot(said, kind) for said, kind in kinds]


def loss_of(model: Any) -> Loss:
    batch = {"image": torch.zeros(2, 3, 8, 8), "boxes": BOXES, "labels": LABELS}
    return detection_loss(model, batch, torch.Generator())


def test_all_right_costs_nothing():
    assert float(loss_of(Told()).total) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("part", "plant"),
    [
        ("objectness", lambda m: m.proposed[1, 5].fill_(20.0)),  # a thing where none is
        ("objectness", lambda m: m.proposed[0, 6, :1].fill_(-20.0)),  # one is missed
        ("box", lambda m: m.proposed[0, 6, 3].add_(0.1)),
        ("label", lambda m: m.said[0, 2, 0].fill_(1)),  # a found box named wrongly
        ("label", lambda m: m.said[0, 3, 0].fill_(1)),  # something seen in nothing
        ("label", lambda m: m.said[0, 1, 1].fill_(0)),
    ],
)
def test_a_mistake_costs_in_its_own_part_alone(part: str, plant: Any):
    model = Told()
    plant(model)
    parts = {name: float(value) for name, value in loss_of(model).parts.items()}
    assert parts.pop(part) > 0.01
    assert all(value == pytest.approx(0, abs=1e-6) for value in parts.values())


def test_what_is_not_there_or_not_asked_costs_nothing():
    model = Told()
    model.said[1, 1] = 1  # where there is no thing
    model.said[0, 3, 1] = 1  # the color of nothing
    assert float(loss_of(model).total) == pytest.approx(0, abs=1e-6)
