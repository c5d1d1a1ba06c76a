"""The conditional U-Net against diffusers' with the same random weights, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import get_timestep_embedding
from networks import ExactTimes, apart, drawn, gradients_apart, named, randomized, twin
from torch import Tensor, nn

from diptych.models.unet import (
    SD1,
    SD1_INPAINT,
    SD1_PIX2PIX,
    SD2,
    SDXL,
    SDXL_REFINER,
    UNet,
    UNetConfig,
)
from diptych.nn.positions import number_features, timestep_features

POOLED, FEATURES = 12, 8


def described(config: UNetConfig) -> dict[str, Any]:
    """Our config in their words; their `attention_head_dim` counts heads."""
    kind = ["CrossAttn" if depth else "" for depth in config.depths]
    depths = [depth or config.mid_depth for depth in config.depths]
    vector = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": FEATURES if config.vector_width < 1000 else 256,
        "projection_class_embeddings_input_dim": config.vector_width,
    }
    return {
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": config.widths,
        "layers_per_block": config.blocks,
        "down_block_types": tuple(f"{one}DownBlock2D" for one in kind),
        "up_block_types": tuple(f"{one}UpBlock2D" for one in reversed(kind)),
        "transformer_layers_per_block": tuple(depths),
        "attention_head_dim": config.heads,
        "cross_attention_dim": config.context_width,
        "use_linear_projection": config.linear_projection,
        "norm_num_groups": config.groups,
        **(vector if config.vector_width else {}),
    }


def xl(numbers: int) -> UNetConfig:
    return UNetConfig.tiny(
        widths=(16, 32),
        depths=(0, 2),
        mid_depth=2,
        heads=(2, 4),
        linear_projection=True,
        vector_width=POOLED + numbers * FEATURES,
    )


TINY = {
    "sd1": UNetConfig.tiny(),
    "sd1-inpaint": UNetConfig.tiny(in_channels=9),
    "sd1-pix2pix": UNetConfig.tiny(in_channels=8),
    "sd1-three-levels": UNetConfig.tiny(
        widths=(16, 32, 48), blocks=2, depths=(1, 1, 0), heads=(4, 4, 4)
    ),
    "sd2": UNetConfig.tiny(heads=(2, 4), linear_projection=True),
    "sdxl": xl(6),
    # No attention at the top and the bottom, more than one block between, its own mid depth.
    "sdxl-refiner": UNetConfig.tiny(
        widths=(16, 32, 32),
        depths=(0, 3, 0),
        mid_depth=2,
        heads=(2, 4, 8),
        linear_projection=True,
        vector_width=POOLED + 5 * FEATURES,
    ),
}
SIZES = [(8, 12), (7, 9), (5, 6)]
every_kind = pytest.mark.parametrize("name", TINY)


def pair(config: UNetConfig) -> tuple[UNet, UNet2DConditionModel]:
    theirs = randomized(UNet2DConditionModel(**described(config)))
    theirs.time_proj = ExactTimes(config.widths[0])
    if config.vector_width:
        theirs.add_time_proj = ExactTimes(FEATURES)
    return twin(UNet(config), theirs), theirs


class Inputs:
    """Two rows with times of their own; kept apart from the networks that read them."""

    def __init__(self, config: UNetConfig, size: tuple[int, int]):
        self.x = drawn(2, config.in_channels, *size, seed=1)
        self.t = torch.tensor([17.0, 981.0], dtype=torch.float64)
        self.context = drawn(2, 7, config.context_width, seed=2)
        numbers = (config.vector_width - POOLED) // FEATURES
        self.pooled = drawn(2, POOLED, seed=3) if config.vector_width else None
        self.numbers = torch.tensor([[7.0, 5, 0, 3, 6, 2], [4.0, 9, 1, 0, 8, 5]])[:, :numbers]

    def ours(self, network: UNet, x: Tensor, **more: Any) -> Tensor:
        vector = None
        if self.pooled is not None:
            features = number_features(self.numbers, FEATURES, self.pooled.dtype)
            vector = torch.cat([self.pooled, features], dim=1).to(x.dtype)
        return network(x, self.t, self.context.to(x.dtype), vector, **more)

    def theirs(self, network: UNet2DConditionModel, x: Tensor, **more: Any) -> Tensor:
        added = None
        if self.pooled is not None:
            added = {"text_embeds": self.pooled.to(x.dtype), "time_ids": self.numbers}
        context = self.context.to(x.dtype)
        return network(x, self.t, context, added_cond_kwargs=added, **more).sample

    def run(self, network: nn.Module, x: Tensor, **more: Any) -> Tensor:
        return (self.ours if isinstance(network, UNet) else self.theirs)(network, x, **more)


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
    inputs = Inputs(TINY[name], (7, 10))
    assert gradients_apart(ours, theirs, inputs.x, named(ours), inputs.run) <= 1e-9


@every_kind
def test_in_float32_as_close_as_rounding_allows(name: str):
    ours, theirs = pair(TINY[name])
    inputs = Inputs(TINY[name], (8, 12))
    with torch.no_grad():
        exact = inputs.run(theirs, inputs.x)
        single = inputs.run(ours.float(), inputs.x.float())
    # Against float64, not against their float32, whose own error is as large.
    assert apart(single, exact) <= 3e-6


@every_kind
def test_the_same_with_the_residuals_of_a_controlnet(name: str):
    ours, theirs = pair(TINY[name])
    inputs = Inputs(TINY[name], (8, 12))
    with torch.no_grad():
        time = torch.zeros(2, ours.config.time_width, dtype=torch.float64)
        states = ours.encode(ours.conv_in(inputs.x), time, inputs.context)
        down = [drawn(*state.shape, seed=9 + n) for n, state in enumerate(states)]
        middle = drawn(*states[-1].shape, seed=8)
        mine = inputs.run(ours, inputs.x, down_residuals=down, mid_residual=middle)
        other = inputs.run(
            theirs,
            inputs.x,
            down_block_additional_residuals=tuple(down),
            mid_block_additional_residual=middle,
        )
        assert apart(mine, other) <= 1e-9
        assert apart(mine, inputs.run(ours, inputs.x)) > 1e-2


def test_times_have_the_features_they_were_trained_with():
    """To the bit, since float32 angles near 1000 are good to 3e-5 only."""
    t = torch.tensor([0.0, 1, 17, 500.5, 999])
    theirs = get_timestep_embedding(t, 320, flip_sin_to_cos=True, downscale_freq_shift=0)
    assert torch.equal(timestep_features(t, 320), theirs)
    assert apart(timestep_features(t, 320, torch.float64), ExactTimes(320)(t)) <= 1e-12


FULL = {
    "sd1": (SD1, 859_520_964),
    "sd1-inpaint": (SD1_INPAINT, 859_535_364),
    "sd1-pix2pix": (SD1_PIX2PIX, 859_532_484),
    "sd2": (SD2, 865_910_724),
    "sdxl": (SDXL, 2_567_463_684),
    "sdxl-refiner": (SDXL_REFINER, 2_259_526_660),
}


@pytest.mark.parametrize("name", FULL)
def test_full_sizes_have_the_published_parameters(name: str):
    config, count = FULL[name]
    with torch.device("meta"):
        ours, theirs = UNet(config), UNet2DConditionModel(**described(config))
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == count
