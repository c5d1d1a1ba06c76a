"""Lumina-Image 2 against diffusers' with the same random weights, in float64."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from diffusers import Lumina2Transformer2DModel
from diffusers.models.normalization import RMSNorm
from networks import (
    ExactRMSNorm,
    ExactTimes,
    apart,
    drawn,
    gradients_apart,
    named,
    randomized,
    replaced,
    twin,
    widened,
)
from torch import Tensor, nn

from diptych.models.lumina2 import LUMINA2, Lumina2, Lumina2Config

TINY = {
    "one group": Lumina2Config.tiny(),
    "two groups": Lumina2Config.tiny(width=48, heads=6, groups=2, refiners=2, depth=3),
    "unequal axes": Lumina2Config.tiny(width=32, heads=2, groups=1, axes=(4, 4, 8)),
}
SIZES = [(8, 8), (8, 12), (10, 6)]
every_kind = pytest.mark.parametrize("name", TINY)


def described(config: Lumina2Config) -> dict[str, Any]:
    """Our config in their words."""
    return {
        "sample_size": config.side,
        "patch_size": config.patch_size,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "hidden_size": config.width,
        "num_layers": config.depth,
        "num_refiner_layers": config.refiners,
        "num_attention_heads": config.heads,
        "num_kv_heads": config.groups,
        "multiple_of": 1,
        "ffn_dim_multiplier": config.hidden / (4 * config.width) + 1e-9,
        "norm_eps": config.norm_epsilon,
        "axes_dim_rope": config.axes,
        "cap_feat_dim": config.context_width,
    }


def pair(config: Lumina2Config, *, exact: bool = True) -> tuple[Lumina2, Lumina2Transformer2DModel]:
    theirs = randomized(Lumina2Transformer2DModel(**described(config)))
    ours = twin(Lumina2(config), theirs)
    if exact:
        theirs.time_caption_embed.time_proj = ExactTimes(256)
        replaced(theirs, RMSNorm, ExactRMSNorm)
    return ours, theirs


class Inputs:
    """Two rows with times of their own, words of different lengths."""

    def __init__(self, config: Lumina2Config, size: tuple[int, int], *, whole: bool = False):
        self.x = drawn(2, config.in_channels, *size, seed=1)
        self.t = torch.tensor([0.017, 0.981], dtype=torch.float64)
        self.context = drawn(2, 5, config.context_width, seed=2)
        self.mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, whole]], dtype=torch.bool)

    def run(self, network: nn.Module, x: Tensor) -> Tensor:
        context = self.context.to(x.dtype)
        if isinstance(network, Lumina2):
            return network(x, self.t.to(x.dtype), context, self.mask)
        # Of their mask they make bools for attention, and sums.
        with widened() if x.dtype == torch.float64 else nullcontext():
            return network(x, self.t.to(x.dtype), context, self.mask.int()).sample


@every_kind
@pytest.mark.parametrize("size", SIZES)
def test_the_same_prediction(name: str, size: tuple[int, int]):
    ours, theirs = pair(TINY[name])
    inputs = Inputs(TINY[name], size)
    with torch.no_grad():
        assert apart(inputs.run(ours, inputs.x), inputs.run(theirs, inputs.x)) <= 1e-9


@every_kind
@pytest.mark.parametrize("whole", [True, False])
def test_the_same_gradients(name: str, whole: bool):
    ours, theirs = pair(TINY[name])
    inputs = Inputs(TINY[name], (8, 12), whole=whole)
    assert gradients_apart(ours, theirs, inputs.x, named(ours), inputs.run) <= 1e-9


@every_kind
def test_in_float32_as_close_as_rounding_allows(name: str):
    ours, theirs = (network.float() for network in pair(TINY[name], exact=False))
    inputs = Inputs(TINY[name], (8, 12))
    with torch.no_grad():
        x = inputs.x.float()
        assert apart(inputs.run(ours, x), inputs.run(theirs, x)) <= 3e-6


def test_words_behind_the_mask_say_nothing():
    ours, _ = pair(TINY["one group"])
    inputs = Inputs(TINY["one group"], (8, 12))
    with torch.no_grad():
        one = inputs.run(ours, inputs.x)
        inputs.context[0, 3:] += 1
        assert torch.equal(inputs.run(ours, inputs.x), one)
        inputs.context[1, 3:] += 1
        assert apart(inputs.run(ours, inputs.x)[1], one[1]) > 1e-2


def test_full_size_has_the_published_parameters():
    config = {**described(LUMINA2), "multiple_of": 256, "ffn_dim_multiplier": None}
    with torch.device("meta"):
        ours, theirs = Lumina2(LUMINA2), Lumina2Transformer2DModel(**config)
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == 2_609_769_152
