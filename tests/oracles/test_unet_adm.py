"""The U-Net without words against diffusers' with the same random weights, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from networks import apart, drawn, gradients_apart, named, randomized, twin
from torch import Tensor, nn

from diptych.models.unet_adm import DDPM_CIFAR10, UNetADM, UNetADMConfig
from diptych.nn.positions import timestep_features

ADM = {
    "scale_shift": True, "residual": True, "centred": True, "sines_first": False,
    "time_shift": 0.0, "classes": 10, "norm_epsilon": 1e-5, "head_dim": 8,
}  # fmt: skip
TINY = {
    "ddpm": UNetADMConfig.tiny(),
    "ddpm-three-levels": UNetADMConfig.tiny(
        widths=(16, 32, 48), blocks=2, attention=(False, True, False)
    ),
    "adm": UNetADMConfig.tiny(**ADM),
    "adm-three-levels": UNetADMConfig.tiny(
        **ADM | {"mid_norm": False}, widths=(16, 32, 48), blocks=2, attention=(False, False, True)
    ),
    "adm-with-convolutions": UNetADMConfig.tiny(**ADM | {"residual": False, "classes": 0}),
}
every_kind = pytest.mark.parametrize("name", TINY)


def described(config: UNetADMConfig) -> dict[str, Any]:
    """Our config in their words."""
    residual = "Resnet{}sampleBlock2D" if config.residual else "{}Block2D"
    down = [f"Attn{'Down'}Block2D" if one else residual.format("Down") for one in config.attention]
    up = ["AttnUpBlock2D" if one else residual.format("Up") for one in config.attention]
    kind = "resnet" if config.residual else "conv"
    return {
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": config.widths,
        "layers_per_block": config.blocks,
        "down_block_types": tuple(down),
        "up_block_types": tuple(reversed(up)),
        "attention_head_dim": config.head_dim or None,
        "attn_norm_num_groups": config.groups if config.mid_norm else None,
        "resnet_time_scale_shift": "scale_shift" if config.scale_shift else "default",
        "downsample_type": kind,
        "upsample_type": kind,
        "downsample_padding": int(config.centred),
        "flip_sin_to_cos": not config.sines_first,
        "freq_shift": config.time_shift,
        "num_class_embeds": config.classes or None,
        "norm_num_groups": config.groups,
        "norm_eps": config.norm_epsilon,
    }


class ExactFeatures(nn.Module):
    """Their features of a time, which they round to float32 on the way, in float64."""

    def __init__(self, config: UNetADMConfig):
        super().__init__()
        self.config = config

    def forward(self, t: Tensor) -> Tensor:
        half = self.config.widths[0] // 2
        powers = torch.arange(half, dtype=torch.float64) / (half - self.config.time_shift)
        angles = t.double()[:, None] * 10_000**-powers
        waves = angles.sin(), angles.cos()
        return torch.cat(waves if self.config.sines_first else waves[::-1], dim=-1)


def pair(config: UNetADMConfig, *, exact: bool = True) -> tuple[UNetADM, UNet2DModel]:
    theirs = randomized(UNet2DModel(**described(config)))
    if exact:
        theirs.time_proj = ExactFeatures(config)
    return twin(UNetADM(config), theirs), theirs


class Inputs:
    """Two rows with times and classes of their own."""

    def __init__(self, config: UNetADMConfig):
        self.x = drawn(2, config.in_channels, 8, 12, seed=1)
        self.t = torch.tensor([17.0, 981.0], dtype=torch.float64)
        self.labels = torch.tensor([3, 7]) if config.classes else None

    def run(self, network: nn.Module, x: Tensor) -> Tensor:
        out = network(x, self.t, self.labels)
        return out if isinstance(network, UNetADM) else out.sample


@every_kind
def test_the_same_prediction(name: str):
    ours, theirs = pair(TINY[name])
    inputs = Inputs(TINY[name])
    with torch.no_grad():
        assert apart(inputs.run(ours, inputs.x), inputs.run(theirs, inputs.x)) <= 1e-9


@every_kind
def test_the_same_gradients(name: str):
    ours, theirs = pair(TINY[name])
    inputs = Inputs(TINY[name])
    assert gradients_apart(ours, theirs, inputs.x, named(ours), inputs.run) <= 1e-9


@every_kind
def test_in_float32_as_close_as_rounding_allows(name: str):
    # Beside their float32: of 981 the angles are good to 3e-5 there, in both alike.
    ours, theirs = (network.float() for network in pair(TINY[name], exact=False))
    inputs = Inputs(TINY[name])
    with torch.no_grad():
        x = inputs.x.float()
        assert apart(inputs.run(ours, x), inputs.run(theirs, x)) <= 3e-6


@every_kind
def test_odd_sizes_come_back_as_they_were(name: str):
    """Theirs grows to twice the size alone, and fails."""
    ours, _ = pair(TINY[name])
    inputs = Inputs(TINY[name])
    with torch.no_grad():
        x = drawn(2, 3, 7, 13, seed=2)
        assert inputs.run(ours, x).shape == x.shape


def test_the_features_that_ddpm_had():
    wave = torch.tensor([1.0], dtype=torch.float64)
    longest = timestep_features(wave, 8, torch.float64, shift=1)[0, 7]
    assert float(longest) == pytest.approx(1e-4, rel=1e-6)


def test_labels_are_told_where_they_are_asked_for():
    for name, other in (("ddpm", "adm"), ("adm", "ddpm")):
        with pytest.raises(ValueError, match="labels"):
            Inputs(TINY[other]).run(UNetADM(TINY[name]).double(), drawn(2, 3, 8, 8))


def test_full_size_has_the_published_parameters():
    with torch.device("meta"):
        ours, theirs = UNetADM(DDPM_CIFAR10), UNet2DModel(**described(DDPM_CIFAR10))
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == 35_746_307
