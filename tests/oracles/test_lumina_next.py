"""Lumina-Next against diffusers' with the same random weights, in float64. Their caller makes the
table of positions, and says how sharply the patches look at each other."""

from __future__ import annotations

from contextlib import nullcontext
from math import sqrt
from typing import Any

import pytest
import torch
from diffusers import LuminaNextDiT2DModel
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

from diptych.models.lumina_next import LUMINA_NEXT, LuminaNext, LuminaNextConfig

TINY = {
    "one group": LuminaNextConfig.tiny(),
    "two groups": LuminaNextConfig.tiny(width=64, heads=4, groups=2, depth=3),
}
SIZES = [(8, 8), (8, 12), (10, 6)]
every_kind = pytest.mark.parametrize("name", TINY)


def described(config: LuminaNextConfig) -> dict[str, Any]:
    """Our config in their words."""
    return {
        "sample_size": config.side,
        "patch_size": config.patch_size,
        "in_channels": config.in_channels,
        "hidden_size": config.width,
        "num_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_kv_heads": config.groups,
        "multiple_of": 1,
        "ffn_dim_multiplier": (config.hidden + 1e-6) / int(8 * config.width / 3),
        "norm_eps": config.norm_epsilon,
        "learn_sigma": config.out_channels == 2 * config.in_channels,
        "cross_attention_dim": config.context_width,
    }


def pair(
    config: LuminaNextConfig, *, exact: bool = True
) -> tuple[LuminaNext, LuminaNextDiT2DModel]:
    theirs = randomized(LuminaNextDiT2DModel(**described(config)))
    ours = twin(LuminaNext(config), theirs)
    if exact:
        theirs.time_caption_embed.time_proj = ExactTimes(256)
        replaced(theirs, RMSNorm, ExactRMSNorm)
    return ours, theirs


def table(config: LuminaNextConfig, size: tuple[int, int]) -> Tensor:
    """Their rotary table of all places, complex, as their pipeline makes it, in float64."""
    quarter = config.width // config.heads // 4
    stretch = sqrt(size[0] * size[1]) / config.side
    rates = 10_000.0 ** -(torch.arange(quarter, dtype=torch.float64) / quarter) / stretch
    angles = torch.arange(384, dtype=torch.float64)[:, None] * rates
    both = [angles[:, None].expand(-1, 384, -1), angles[None].expand(384, -1, -1)]
    angles = torch.stack(both, dim=-1).flatten(2)
    return torch.polar(torch.ones_like(angles), angles)


class Inputs:
    """Two rows with times of their own, words of different lengths."""

    def __init__(self, config: LuminaNextConfig, size: tuple[int, int]):
        self.config, self.size = config, size
        self.x = drawn(2, config.in_channels, *size, seed=1)
        self.t = torch.tensor([0.017, 0.981], dtype=torch.float64)
        self.context = drawn(2, 5, config.context_width, seed=2)
        self.mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)

    def run(self, network: nn.Module, x: Tensor) -> Tensor:
        context, t = self.context.to(x.dtype), self.t.to(x.dtype)
        if isinstance(network, LuminaNext):
            return network(x, t, context, self.mask)
        base = (self.config.side // self.config.patch_size) ** 2
        with widened() if x.dtype == torch.float64 else nullcontext():
            return network(
                x, t, context, self.mask.int(), table(self.config, self.size),
                cross_attention_kwargs={"base_sequence_length": base},
            ).sample  # fmt: skip


@every_kind
@pytest.mark.parametrize("size", SIZES)
def test_the_same_prediction(name: str, size: tuple[int, int]):
    ours, theirs = pair(TINY[name])
    inputs = Inputs(TINY[name], size)
    with torch.no_grad():
        assert apart(inputs.run(ours, inputs.x), inputs.run(theirs, inputs.x)) <= 1e-9


@every_kind
def test_the_same_gradients(name: str):
    ours, theirs = pair(TINY[name])
    inputs = Inputs(TINY[name], (8, 12))
    weights = [key for key in named(ours) if not key.endswith("norm_k.bias")]
    assert gradients_apart(ours, theirs, inputs.x, weights, inputs.run) <= 1e-9


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
    config = {**described(LUMINA_NEXT), "multiple_of": 256, "ffn_dim_multiplier": None}
    with torch.device("meta"):
        ours, theirs = LuminaNext(LUMINA_NEXT), LuminaNextDiT2DModel(**config)
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}
    assert sum(value.numel() for value in ours.state_dict().values()) == 1_754_898_976
