"""Batches of the scenes world: pure functions of (seed, index)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diptych.data.scenes.render import render
from diptych.data.scenes.world import Scene, World


def scenes(world: World, seed: int, index: int, count: int) -> list[Scene]:
    """The scenes of batch `index`."""
    return [world.scene(seed, index * count + row) for row in range(count)]


def to_image(pictures: list[np.ndarray]) -> Tensor:
    """Pictures [H, W, 3] uint8 -> image [B, 3, H, W] float32 in -1..1"""
    stacked = torch.from_numpy(np.stack(pictures))
    return stacked.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def images(world: World, seed: int, count: int, index: int) -> Tensor:
    """Batch `index` of pictures as an image tensor [count, 3, size, size]."""
    return to_image([render(scene, world.size) for scene in scenes(world, seed, index, count)])


def padded(sentences: list[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Token lists -> tokens [B, L] int64 and mask [B, L] (True: a token)."""
    length = max(len(sentence) for sentence in sentences)
    tokens = torch.tensor([sentence + [pad] * (length - len(sentence)) for sentence in sentences])
    lengths = torch.tensor([len(sentence) for sentence in sentences])
    return tokens, torch.arange(length)[None] < lengths[:, None]
