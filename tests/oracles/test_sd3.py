"""The transformer of SD3 against diffusers' with the same random weights, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.embeddings import Timesteps
from networks import ExactTimes, apart, drawn, exact_norms, gradients_apart, randomized, twin
from torch import Tensor, nn

from diptych.foundation.errors import InvalidValue
from diptych.models.sd3 import SD3, SD3_MEDIUM, SD35_LARGE, SD35_MEDIUM, SD3Config
from diptych.nn.positions import sine_grid

TINY = {
    "sd3": SD3Config.tiny(normed=False, dual=()),
    "sd3.5-medium": SD3Config.tiny(),
    "sd3.5-large": SD3Config.tiny(dual=(), depth=2, heads=3),
    # The last block looks at itself alone, too, and what comes out is not what goes in.
    "dual to the end": SD3Config.tiny(dual=(0, 2), out_channels=6, patch_size=1, head_dim=12),
}
every_kind = pytest.mark.parametrize("name", TINY)
SIZES = [(8, 12), (16, 4), (6, 10)]


def described(config: SD3Config) -> dict[str, Any]:
    """Our config in their words."""
    return {
        "sample_size": 64 * config.patch_size,
        "patch_size": config.patch_size,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "num_layers": config.depth,
        "num_attention_heads": config.heads,
        "attention_head_dim": config.head_dim,
        "joint_attention_dim": config.context_width,
        "caption_projection_dim": config.width,
        "pooled_projection_dim": config.pooled_width,
        "pos_embed_max_size": config.positions,
        "dual_attention_layers": config.dual,
        "qk_norm": "rms_norm" if config.normed else None,
    }


def pair(config: SD3Config) -> tuple[SD3, SD3Transformer2DModel]:
    theirs = randomized(exact_norms(SD3Transformer2DModel(**described(config))))
    theirs.time_text_embed.time_proj = ExactTimes(256)
    return twin(SD3(config), theirs), theirs


class Inputs:
    """Two rows with times of their own."""

    def __init__(self, config: SD3Config, size: tuple[int, int] = (8, 12)):
        size = (size[0] // 2 * config.patch_size, size[1] // 2 * config.patch_size)
        self.x = drawn(2, config.in_channels, *size, seed=1)
        self.t = torch.tensor([17.0, 981.5], dtype=torch.float64)
        self.context = drawn(2, 7, config.context_width, seed=2)
        self.pooled = drawn(2, config.pooled_width, seed=3)

    def run(self, network: nn.Module, x: Tensor) -> Tensor:
        words = self.context.to(x.dtype), self.pooled.to(x.dtype)
        if isinstance(network, SD3):
            return network(x, self.t, *words)
        return network(x, *words, self.t).sample


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
    inputs, last = Inputs(TINY[name]), f"transformer_blocks.{TINY[name].depth - 1}.attn."
    # Keys are moved alike by a bias, which changes no softmax; where they are normed it does.
    idle = ["add_q_proj", "norm_added_q", *([] if TINY[name].normed else ["k_proj.bias"])]
    names = [
        key
        for key, _ in ours.named_parameters()
        if not (key.startswith(last) and any(word in key for word in idle))
        and (TINY[name].normed or not key.endswith(("to_k.bias", "add_k_proj.bias")))
    ]
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


def test_a_time_is_not_rounded_to_bfloat16():
    ours, _ = pair(TINY["sd3"])
    inputs = Inputs(TINY["sd3"])
    x = inputs.x.bfloat16()
    with torch.no_grad():
        one = inputs.run(ours.bfloat16(), x)
        inputs.t = inputs.t + torch.tensor([0.0, -2.0])
        other = inputs.run(ours, x)
    assert inputs.t[1].bfloat16() == torch.tensor(981.5).bfloat16()
    assert torch.equal(one[0], other[0]) and not torch.equal(one[1], other[1])


def test_a_fresh_table_of_places_is_theirs():
    theirs = SD3Transformer2DModel(**described(SD3Config.tiny(heads=2, depth=1, dual=())))
    table = theirs.pos_embed.pos_embed[0]
    assert apart(sine_grid(table.shape[-1], 8, 8, 64), table) <= 1e-6


def test_a_picture_beyond_the_places_is_refused():
    ours, _ = pair(TINY["sd3"])
    inputs = Inputs(TINY["sd3"], (18, 4))
    with pytest.raises(InvalidValue, match="9 x 2 patches"):
        inputs.run(ours, inputs.x)


FULL = {
    "sd3": (SD3_MEDIUM, 2_028_328_000),
    "sd3.5-medium": (SD35_MEDIUM, 2_243_171_520),
    "sd3.5-large": (SD35_LARGE, 8_056_627_520),
}


@pytest.mark.parametrize("name", FULL)
def test_full_sizes_have_the_published_parameters(name: str):
    config, count = FULL[name]
    with torch.device("meta"):
        ours = SD3(config)
        # Their table of places does not want to be made without memory.
        theirs = SD3Transformer2DModel(**described(config) | {"pos_embed_max_size": 2})
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    wanted = {key: value.shape for key, value in theirs.state_dict().items()}
    wanted["pos_embed.pos_embed"] = torch.Size([1, config.positions**2, config.width])
    assert shapes == wanted
    assert sum(p.numel() for p in ours.parameters()) == count
