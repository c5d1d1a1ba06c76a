"""Where boxes lie, which are kept, and what of the grid a box is described by."""

from __future__ import annotations

import pytest
import torch

from diptych.models.region_detector import RegionDetector, RegionDetectorConfig
from diptych.models.resnet import RESNET_18, RESNET_50, ResNet, ResNetConfig
from diptych.nn.boxes import overlaps
from diptych.nn.unfilled import without_memory


def test_overlaps_are_those_of_pixels_counted():
    boxes = torch.tensor([[4.0, 4.0, 4.0, 6.0], [5.0, 4.0, 4.0, 2.0], [12.0, 12.0, 2.0, 2.0]])
    canvas = torch.zeros(3, 16, 16, dtype=torch.bool)
    for layer, (x, y, w, h) in zip(canvas, boxes.int().tolist(), strict=True):
        layer[y - h // 2 : y + h // 2, x - w // 2 : x + w // 2] = True
    shared = (canvas[:, None] & canvas).sum((-1, -2)) / (canvas[:, None] | canvas).sum((-1, -2))
    torch.testing.assert_close(overlaps(boxes, boxes), shared)


def test_a_proposals_center_stays_near_its_cell():
    detector = RegionDetector(RegionDetectorConfig.tiny())
    for parameter in detector.parameters():
        torch.nn.init.normal_(parameter, std=3.0)
    grid = 5 * torch.randn(2, 8, 3, 4)
    proposed = detector.propose_in(grid)
    rows, columns = torch.arange(12) // 4, torch.arange(12) % 4
    centers = torch.stack([(columns + 0.5) / 4, (rows + 0.5) / 3], dim=-1)
    away = (proposed[..., 1:3] - centers).abs()
    assert (away[..., 0] <= 1 / 4 + 1e-6).all() and (away[..., 1] <= 1 / 3 + 1e-6).all()
    assert away.max() > 0.1 and (proposed[..., 3:] >= 0).all()


def test_a_box_that_overlaps_a_better_one_that_is_kept_comes_last():
    detector = RegionDetector(RegionDetectorConfig.tiny(proposals=5, regions=4))
    centers = [0.5, 0.55, 0.6, 0.1, 0.52]
    # The second lies on the first; the third on the second alone; the last on the first and others.
    boxes = torch.tensor([[x, 0.5, 0.2, 0.2] for x in centers])
    proposed = torch.cat([torch.arange(5.0, 0.0, -1.0)[:, None], boxes], dim=1)
    kept = detector.best(proposed[None])[0]
    torch.testing.assert_close(kept, boxes[[0, 2, 3, 1]])


def test_a_box_is_described_by_what_lies_in_it():
    torch.manual_seed(0)
    detector = RegionDetector(RegionDetectorConfig.tiny())
    grid = torch.randn(1, 8, 6, 10)
    boxes = torch.tensor([[[0.25, 0.5, 0.2, 0.3]]])
    plain = detector.describe(grid, boxes)
    far, near = grid.clone(), grid.clone()
    far[..., 6:] += 1  # right of it
    near[..., 2] += 1
    assert torch.equal(detector.describe(far, boxes), plain)
    assert not torch.equal(detector.describe(near, boxes), plain)


@pytest.mark.parametrize(("config", "count"), [(RESNET_18, 11_689_512), (RESNET_50, 25_557_032)])
def test_published_sizes(config: ResNetConfig, count: int):
    with without_memory():
        network = ResNet(config)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    names = network.state_dict().keys()
    assert {"conv1.weight", "layer4.1.bn2.running_var", "layer2.0.downsample.0.weight"} <= names


def test_a_cell_is_as_wide_as_the_config_says():
    for config in (ResNetConfig(), ResNetConfig.tiny(bottleneck=True), RESNET_18):
        network = ResNet(config).eval()
        grid = network.features(torch.zeros(1, 3, 64, 96))
        assert grid.shape == (1, config.width, 64 // config.stride, 96 // config.stride)
