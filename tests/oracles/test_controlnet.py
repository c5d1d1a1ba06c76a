"""ControlNet against diffusers' with the same random weights, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from networks import ExactTimes, all_apart, drawn, gradients_apart, named, randomized, twin
from test_unet import FEATURES, TINY, Inputs, described
from torch import Tensor, nn

from diptych.models.controlnet import (
    CONTROLNET_SD1,
    CONTROLNET_SDXL,
    ControlNet,
    ControlNetConfig,
    weighed,
)
from diptych.nn.positions import number_features

KINDS = ["sd1", "sd1-three-levels", "sd2", "sdxl"]
every_kind = pytest.mark.parametrize("name", KINDS)


def in_their_words(config: ControlNetConfig) -> dict[str, Any]:
    unet = described(config.unet)
    del unet["up_block_types"], unet["out_channels"]
    return unet | {
        "conditioning_channels": config.hint_channels,
        "conditioning_embedding_out_channels": config.hint_widths,
    }


def pair(config: ControlNetConfig) -> tuple[ControlNet, ControlNetModel]:
    theirs = randomized(ControlNetModel(**in_their_words(config)))
    theirs.time_proj = ExactTimes(config.unet.widths[0])
    if config.unet.vector_width:
        theirs.add_time_proj = ExactTimes(FEATURES)
    return twin(ControlNet(config), theirs), theirs


class Hinted(Inputs):
    """The U-Net's inputs and a hint of twice their size; all residuals in one list."""

    def __init__(self, config: ControlNetConfig, size: tuple[int, int]):
        super().__init__(config.unet, size)
        self.hint = drawn(2, 3, 2 * size[0], 2 * size[1], seed=5)

    def all(self, network: nn.Module, x: Tensor, **more: Any) -> list[Tensor]:
        hint, context, vector, added = self.hint.to(x.dtype), self.context.to(x.dtype), None, None
        if self.pooled is not None:
            features = number_features(self.numbers, FEATURES, self.pooled.dtype)
            vector = torch.cat([self.pooled, features], dim=1).to(x.dtype)
            added = {"text_embeds": self.pooled, "time_ids": self.numbers}
        if isinstance(network, ControlNet):
            return list(network(x, self.t, context, hint, vector))
        out = network(x, self.t, context, hint, added_cond_kwargs=added, **more)
        return [*out.down_block_res_samples, out.mid_block_res_sample]


def of(name: str) -> ControlNetConfig:
    return ControlNetConfig.tiny(unet=TINY[name])


@every_kind
@pytest.mark.parametrize("size", [(8, 12), (7, 9)])
def test_the_same_residuals(name: str, size: tuple[int, int]):
    inputs, networks = Hinted(of(name), size), pair(of(name))
    with torch.no_grad():
        assert all_apart(*(inputs.all(network, inputs.x) for network in networks)) <= 1e-9


@every_kind
def test_the_same_gradients(name: str):
    inputs, networks = Hinted(of(name), (7, 10)), pair(of(name))

    def run(network: nn.Module, x: Tensor) -> Tensor:
        return torch.cat([part.flatten() for part in inputs.all(network, x)])

    assert gradients_apart(*networks, inputs.x, named(networks[0]), run) <= 1e-9


@every_kind
def test_in_float32_as_close_as_rounding_allows(name: str):
    inputs, (ours, theirs) = Hinted(of(name), (8, 12)), pair(of(name))
    with torch.no_grad():
        exact = inputs.all(theirs, inputs.x)
        assert all_apart(inputs.all(ours.float(), inputs.x.float()), exact) <= 3e-6


@pytest.mark.parametrize("guess", [False, True])
def test_the_same_strength(guess: bool):
    inputs, (ours, theirs) = Hinted(of("sd1"), (8, 12)), pair(of("sd1"))
    with torch.no_grad():
        plain = inputs.all(ours, inputs.x)
        other = inputs.all(theirs, inputs.x, conditioning_scale=0.7, guess_mode=guess)
        # Their shares are float32.
        assert all_apart(weighed(plain, 0.7, guess=guess), other) <= (1e-7 if guess else 1e-9)
        rows = weighed(plain, torch.tensor([0.7, 0.0]), guess=guess)
    assert all(not part[1].any() for part in rows)
    assert all_apart([part[0] for part in rows], [part[0] for part in other]) <= 1e-7


@pytest.mark.parametrize(
    ("config", "count"), [(CONTROLNET_SD1, 361_279_120), (CONTROLNET_SDXL, 1_251_014_160)]
)
def test_full_sizes_have_the_published_parameters(config: ControlNetConfig, count: int):
    with torch.device("meta"):
        ours, theirs = ControlNet(config), ControlNetModel(**in_their_words(config))
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == count
