"""FLUX's transformer against diffusers' with the same random weights, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.embeddings import Timesteps
from diffusers.models.transformers import transformer_flux
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from networks import ExactTimes, apart, drawn, gradients_apart, randomized, twin
from torch import Tensor, nn

from diptych.models.flux import (
    FLUX_CONTROL,
    FLUX_DEV,
    FLUX_FILL,
    FLUX_SCHNELL,
    Flux,
    FluxConfig,
)

TINY = {
    "dev": FluxConfig.tiny(),
    "schnell": FluxConfig.tiny(guidance=False, depth=2, single_depth=1),
    "fill": FluxConfig.tiny(in_channels=24, heads=3),
    "control": FluxConfig.tiny(in_channels=8, axes=(2, 6, 4)),
}
every_kind = pytest.mark.parametrize("name", TINY)
SIZES = [(8, 12), (2, 6), (10, 4)]


def described(config: FluxConfig) -> dict[str, Any]:
    """Our config in their words."""
    return {
        "in_channels": 4 * config.in_channels,
        "out_channels": 4 * config.out_channels,
        "num_layers": config.depth,
        "num_single_layers": config.single_depth,
        "num_attention_heads": config.heads,
        "attention_head_dim": config.head_dim,
        "joint_attention_dim": config.context_width,
        "pooled_projection_dim": config.pooled_width,
        "guidance_embeds": config.guidance,
        "axes_dims_rope": config.axes,
    }


class ExactPlaces(nn.Module):
    """Their turns, which they round to float32, as complex numbers."""

    def __init__(self, axes: tuple[int, ...]):
        super().__init__()
        self.axes = axes

    def forward(self, places: Tensor) -> Tensor:
        angles = [
            place[:, None] * 10_000 ** (-torch.arange(0, axis, 2, dtype=torch.float64) / axis)
            for place, axis in zip(places.double().unbind(-1), self.axes, strict=True)
        ]
        angles = torch.cat(angles, dim=-1)
        return torch.polar(torch.ones_like(angles), angles)


def turned(x: Tensor, turns: Tensor, sequence_dim: int) -> Tensor:
    """Theirs rounds x [B, N, H, D] to float32."""
    assert sequence_dim == 1
    pairs = torch.view_as_complex(x.contiguous().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns[:, None]).flatten(-2)


@pytest.fixture(autouse=True)
def exact_turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(transformer_flux, "apply_rotary_emb", turned)
    yield


def pair(config: FluxConfig) -> tuple[Flux, FluxTransformer2DModel]:
    theirs = randomized(FluxTransformer2DModel(**described(config)))
    theirs.time_text_embed.time_proj = ExactTimes(256)
    theirs.pos_embed = ExactPlaces(config.axes)
    return twin(Flux(config), theirs), theirs


class Inputs:
    """Two rows with times and guidances of their own."""

    def __init__(self, config: FluxConfig, size: tuple[int, int] = (8, 12)):
        self.size = size
        self.x = drawn(2, config.in_channels, *size, seed=1)
        self.t = torch.tensor([0.015625, 0.984375], dtype=torch.float64)
        self.context = drawn(2, 7, config.context_width, seed=2)
        self.pooled = drawn(2, config.pooled_width, seed=3)
        self.guidance = torch.tensor([3.5, 1.25], dtype=torch.float64) if config.guidance else None

    def run(self, network: nn.Module, x: Tensor) -> Tensor:
        words = self.context.to(x.dtype), self.pooled.to(x.dtype)
        if isinstance(network, Flux):
            return network(x, self.t, *words, self.guidance)
        height, width = self.size
        packed = FluxPipeline._pack_latents(x, *x.shape)
        places = FluxPipeline._prepare_latent_image_ids(2, height // 2, width // 2, "cpu", x.dtype)
        out = network(
            packed, *words, self.t, places, torch.zeros(7, 3), self.guidance, return_dict=False
        )[0]
        return FluxPipeline._unpack_latents(out, 8 * height, 8 * width, 8)


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
    inputs, names = Inputs(TINY[name]), [name for name, _ in ours.named_parameters()]
    assert gradients_apart(ours, theirs, inputs.x, names, inputs.run) <= 1e-9


@every_kind
def test_in_float32_as_close_as_rounding_allows(name: str):
    ours, theirs = pair(TINY[name])
    inputs = Inputs(TINY[name])
    # Angles near 1000 are good to 3e-5 in float32: all networks were trained with those.
    theirs.time_text_embed.time_proj = Timesteps(256, True, 0)
    with torch.no_grad():
        exact = inputs.run(theirs, inputs.x)
        assert apart(inputs.run(ours.float(), inputs.x.float()), exact) <= 3e-6


@pytest.mark.parametrize(("what", "more"), [("t", 0.001), ("guidance", 0.003)])
def test_time_and_guidance_are_not_rounded_to_bfloat16(what: str, more: float):
    ours, _ = pair(TINY["dev"])
    inputs = Inputs(TINY["dev"])
    x, said = inputs.x.bfloat16(), getattr(inputs, what)
    assert torch.equal((said + more).bfloat16()[1], said.bfloat16()[1])
    with torch.no_grad():
        one = inputs.run(ours.bfloat16(), x)
        setattr(inputs, what, said + more)
        assert not torch.equal(one[1], inputs.run(ours, x)[1])


@pytest.mark.parametrize("name", ["dev", "schnell"])
def test_guidance_is_told_where_it_is_read(name: str):
    ours, _ = pair(TINY[name])
    inputs = Inputs(TINY[name])
    inputs.guidance = torch.ones(2) if inputs.guidance is None else None
    with pytest.raises(ValueError, match="guidance"):
        inputs.run(ours, inputs.x)


FULL = {
    "dev": (FLUX_DEV, 11_901_408_320),
    "schnell": (FLUX_SCHNELL, 11_891_178_560),
    "fill": (FLUX_FILL, 11_902_391_360),
    "control": (FLUX_CONTROL, 11_901_604_928),
}


@pytest.mark.parametrize("name", FULL)
def test_full_sizes_have_the_published_parameters(name: str):
    config, count = FULL[name]
    with torch.device("meta"):
        ours, theirs = Flux(config), FluxTransformer2DModel(**described(config))
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == count
