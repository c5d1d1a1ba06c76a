"""Gemma and Gemma 2 against transformers' with the same random weights, in float64."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from networks import all_apart, apart, drawn, gradients, named, randomized, twin, widened
from torch import Tensor, nn
from transformers import Gemma2Config, Gemma2Model, GemmaModel
from transformers import GemmaConfig as TheirConfig

from diptych.models.gemma_encoder import GEMMA2_2B, GEMMA_2B, GemmaConfig, GemmaEncoder

_FIRST = {"sandwich": False, "cap": 0.0, "window": 0, "scale_width": 0}
TINY = {
    "gemma": GemmaConfig.tiny(**_FIRST),
    "gemma-one-group": GemmaConfig.tiny(**_FIRST, groups=1, heads=2, head_dim=12),
    "gemma2": GemmaConfig.tiny(),
    "gemma2-other-base": GemmaConfig.tiny(base=500.0, cap=2.0, window=2, scale_width=30),
}
every_kind = pytest.mark.parametrize("name", TINY)


def described(config: GemmaConfig) -> TheirConfig | Gemma2Config:
    """Our config in their words."""
    said: dict[str, Any] = {
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.groups,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.norm_epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.base},
        "attn_implementation": "eager",
    }
    if not config.sandwich:
        return TheirConfig(**said)
    return Gemma2Config(
        **said,
        attn_logit_softcapping=config.cap,
        sliding_window=config.window,
        query_pre_attn_scalar=config.scale_width,
    )


class ExactRotary(nn.Module):
    """Their turns, whose rates they keep in float32, in float64."""

    def __init__(self, config: GemmaConfig):
        super().__init__()
        self.config = config

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        powers = torch.arange(0, self.config.head_dim, 2, dtype=torch.float64)
        angles = position_ids[..., None] * self.config.base ** (-powers / self.config.head_dim)
        both = torch.cat([angles, angles], dim=-1)
        return both.cos().to(x.dtype), both.sin().to(x.dtype)


def pair(config: GemmaConfig, *, exact: bool = True) -> tuple[GemmaEncoder, nn.Module]:
    kind = Gemma2Model if config.sandwich else GemmaModel
    theirs = randomized(kind(described(config)))
    ours = twin(GemmaEncoder(config), theirs)
    if exact:
        theirs.rotary_emb = ExactRotary(config)
        theirs.embed_tokens.embed_scale = torch.tensor(config.width**0.5, dtype=torch.float64)
    return ours, theirs


TOKENS = torch.tensor([[2, 7, 31, 5, 11, 0, 0], [2, 9, 9, 30, 1, 17, 12]])
MASKS = {
    "right": torch.tensor([[1, 1, 1, 1, 1, 0, 0], [1] * 7], dtype=torch.bool),
    "left": torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1] * 7], dtype=torch.bool),
    "none": torch.ones(2, 7, dtype=torch.bool),
}


def states(network: nn.Module, mask: Tensor) -> list[Tensor]:
    """All states but those of padding; theirs have the last one normed."""
    if isinstance(network, GemmaEncoder):
        found = network(TOKENS, mask)
        return [state[mask] for state in (*found.layers[:-1], found.last)]
    exact = next(network.parameters()).dtype == torch.float64
    with widened() if exact else nullcontext():
        out = network(TOKENS, mask.int(), output_hidden_states=True, use_cache=False)
    assert torch.equal(out.hidden_states[-1], out.last_hidden_state)
    return [state[mask] for state in out.hidden_states]


@every_kind
@pytest.mark.parametrize("side", MASKS)
def test_the_same_states(name: str, side: str):
    ours, theirs = pair(TINY[name])
    with torch.no_grad():
        assert all_apart(states(ours, MASKS[side]), states(theirs, MASKS[side])) <= 1e-9


@every_kind
def test_the_same_gradients(name: str):
    ours, theirs = pair(TINY[name])
    found = []
    for network in (ours, theirs):
        wanted = [network.get_parameter(key) for key in named(ours)]
        found.append(gradients(lambda network=network: states(network, MASKS["right"])[-1], wanted))
    assert all_apart(*found) <= 1e-9


@every_kind
def test_in_float32_as_close_as_rounding_allows(name: str):
    ours, theirs = (network.float() for network in pair(TINY[name], exact=False))
    with torch.no_grad():
        assert all_apart(states(ours, MASKS["right"]), states(theirs, MASKS["right"])) <= 3e-6


def test_padding_says_nothing_and_is_a_number():
    ours, _ = pair(TINY["gemma2"])
    with torch.no_grad():
        for side in ("left", "right"):
            one = ours(TOKENS, MASKS[side])
            changed = torch.where(MASKS[side], TOKENS, 38)
            other = ours(changed, MASKS[side])
            assert torch.equal(one.last[MASKS[side]], other.last[MASKS[side]])
            assert one.last.isfinite().all()


def test_caps_and_windows_are_seen():
    """What a wrong reading of them would cost: as much as a wrong network."""
    ours, _ = pair(TINY["gemma2"])
    for change in ({"cap": 0.0}, {"window": 0}, {"scale_width": 0}, {"window": 4}):
        other = GemmaEncoder(GemmaConfig.tiny(**change)).double().eval()
        other.load_state_dict(ours.state_dict())
        with torch.no_grad():
            assert apart(other(TOKENS).last, ours(TOKENS).last) > 1e-4


FULL = {"gemma-2b": GEMMA_2B, "gemma-2-2b": GEMMA2_2B}


@pytest.mark.parametrize("name", FULL)
def test_full_sizes_have_the_published_parameters(name: str):
    config = FULL[name]
    with torch.device("meta"):
        kind = Gemma2Model if config.sandwich else GemmaModel
        ours, theirs = GemmaEncoder(config), kind(described(config))
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}
    counts = {"gemma-2b": 2_506_172_416, "gemma-2-2b": 2_614_341_888}
    assert sum(p.numel() for p in ours.parameters()) == counts[name]


def test_drawn_scores_reach_the_cap():
    """Else its test would be blind."""
    q, k = drawn(1, 1, 4, 8, seed=1), drawn(1, 1, 4, 8, seed=2)
    assert (q @ k.mT).abs().max() > TINY["gemma2"].cap
