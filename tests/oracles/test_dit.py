"""DiT against diffusers' with the same random weights, in float64.

Theirs begins its times at another wave and norms with another epsilon than the publisher's code
(`DiTConfig`): ours is told to do the same here.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel
from networks import ExactTimes, apart, drawn, gradients_apart, named, randomized
from torch import Tensor, nn

from diptych.checkpoints.families.dit import folder_rules
from diptych.checkpoints.rules import ours_of, plan_of, stored_of
from diptych.models.dit import DIT_XL_2, DiT, DiTConfig

THEIRS = {"time_shift": 1.0, "norm_epsilon": 1e-5}
TINY = {
    "dit": DiTConfig.tiny(**THEIRS),
    "without a variance": DiTConfig.tiny(out_channels=4, **THEIRS),
    "large patches": DiTConfig.tiny(patch_size=4, heads=2, depth=3, **THEIRS),
}
every_kind = pytest.mark.parametrize("name", TINY)


def described(config: DiTConfig) -> dict[str, Any]:
    """Our config in their words."""
    return {
        "num_attention_heads": config.heads,
        "attention_head_dim": config.width // config.heads,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "num_layers": config.depth,
        "norm_num_groups": 1,
        "sample_size": config.side,
        "patch_size": config.patch_size,
        "num_embeds_ada_norm": config.classes,
        "norm_eps": config.norm_epsilon,
    }


def pair(config: DiTConfig, *, exact: bool = True) -> tuple[DiT, DiTTransformer2DModel]:
    theirs = randomized(DiTTransformer2DModel(**described(config)))
    first = theirs.transformer_blocks[0].norm1.emb
    for block in theirs.transformer_blocks:
        block.norm1.emb.load_state_dict(first.state_dict())
        if exact:
            block.norm1.emb.time_proj = ExactTimes(256, 1.0)
    ours, state = DiT(config).double().eval(), theirs.state_dict()
    plan = plan_of(folder_rules(config), ours.state_dict())
    ours.load_state_dict({take.ours: ours_of(take, state[take.theirs]) for take in plan})
    # And back: what they keep in every block is written into every block.
    again = stored_of(plan, ours.state_dict())
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], state[key]) for key in state)
    return ours, theirs


class Inputs:
    """Two rows, one of them of no class."""

    def __init__(self, config: DiTConfig):
        self.x = drawn(2, config.in_channels, config.side, config.side, seed=1)
        self.t = torch.tensor([17.0, 981.0], dtype=torch.float64)
        self.labels = torch.tensor([3, config.classes])

    def run(self, network: nn.Module, x: Tensor) -> Tensor:
        if isinstance(network, DiT):
            return network(x, self.t, self.labels)
        return network(x, timestep=self.t, class_labels=self.labels).sample


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
    weights = [key for key in named(ours) if not key.startswith("emb.")]
    assert gradients_apart(ours, theirs, inputs.x, weights, inputs.run) <= 1e-9


@every_kind
def test_in_float32_as_close_as_rounding_allows(name: str):
    # Beside their float32: of 981 the angles are good to 3e-5 there, in both alike.
    ours, theirs = (network.float() for network in pair(TINY[name], exact=False))
    inputs = Inputs(TINY[name])
    with torch.no_grad():
        x = inputs.x.float()
        assert apart(inputs.run(ours, x), inputs.run(theirs, x)) <= 3e-6


def test_pictures_of_other_sizes_have_their_rows_and_columns():
    """Theirs takes squares alone: a turned picture is seen turned, and rows are not columns."""
    ours, _ = pair(TINY["dit"])
    inputs = Inputs(TINY["dit"])
    wide = drawn(2, 4, 8, 12, seed=5)
    with torch.no_grad():
        assert inputs.run(ours, wide).shape == (2, 8, 8, 12)
        assert apart(ours.pos_embed(wide), ours.pos_embed(wide.flip(3)).flip(1)) > 1e-2


@pytest.mark.parametrize(
    ("changes", "low", "high"),
    [({}, 0.39, 0.41), ({"norm_epsilon": 1e-5}, 0.39, 0.41), ({"time_shift": 1.0}, 7e-7, 9e-7)],
)
def test_what_the_publisher_trained_with_is_another_function(
    changes: dict[str, float], low: float, high: float
):
    """Almost all of it is the times."""
    ours, _ = pair(TINY["dit"])
    inputs = Inputs(TINY["dit"])
    trained = DiT(DiTConfig.tiny(**changes)).double().eval()
    trained.load_state_dict(ours.state_dict())
    with torch.no_grad():
        assert low < apart(inputs.run(trained, inputs.x), inputs.run(ours, inputs.x)) < high


def test_full_size_has_the_published_parameters():
    with torch.device("meta"):
        ours, theirs = DiT(DIT_XL_2), DiTTransformer2DModel(**described(DIT_XL_2))
    assert sum(p.numel() for p in ours.parameters()) == 674_834_720
    assert sum(p.numel() for p in theirs.parameters()) == 749_826_464
    state = ours.state_dict()
    stored = {
        name: tuple(state[take.ours].shape)
        for take in plan_of(folder_rules(DIT_XL_2), state)
        for name in (take.theirs, *take.also)
    }
    assert stored == {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
