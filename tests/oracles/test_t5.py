"""T5's encoder against transformers' with the same random weights, in float64."""

from __future__ import annotations

import pytest
import torch
from networks import apart, exact_norms, gradients, randomized
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel
from transformers.models.t5.modeling_t5 import T5Attention

from diptych.models.t5_encoder import T5_XXL, T5Encoder, T5EncoderConfig, buckets_of

TINY = {
    "tiny": T5EncoderConfig.tiny(),
    "few buckets": T5EncoderConfig.tiny(buckets=8, distance=5, heads=3, head_dim=4),
    "another epsilon": T5EncoderConfig.tiny(norm_epsilon=1e-2, head_dim=5, hidden=7),
}
every_kind = pytest.mark.parametrize("name", TINY)


def described(config: T5EncoderConfig) -> T5Config:
    """Our config in their words."""
    return T5Config(
        vocab_size=config.vocabulary,
        d_model=config.width,
        d_kv=config.head_dim,
        d_ff=config.hidden,
        num_layers=config.depth,
        num_heads=config.heads,
        relative_attention_num_buckets=config.buckets,
        relative_attention_max_distance=config.distance,
        layer_norm_epsilon=config.norm_epsilon,
        feed_forward_proj="gated-gelu",
    )


def pair(config: T5EncoderConfig) -> tuple[T5Encoder, nn.Module]:
    theirs = randomized(exact_norms(T5EncoderModel(described(config)), config.norm_epsilon))
    theirs.encoder.embed_tokens.weight = theirs.shared.weight  # the same, before and after
    ours = T5Encoder(config).double().eval()
    state = theirs.state_dict()
    state.pop("encoder.embed_tokens.weight")
    ours.load_state_dict(state, strict=True)
    return ours, theirs


def tokens(length: int = 23) -> Tensor:
    return torch.randint(40, (3, length), generator=torch.Generator().manual_seed(5))


@every_kind
@pytest.mark.parametrize("length", [1, 23, 300])
def test_the_same_states(name: str, length: int):
    ours, theirs = pair(TINY[name])
    with torch.no_grad():
        wanted = theirs(tokens(length)).last_hidden_state
        assert apart(ours(tokens(length)), wanted) <= 1e-9


@every_kind
def test_the_same_with_a_mask(name: str):
    ours, theirs = pair(TINY[name])
    mask = torch.ones(3, 23, dtype=torch.bool)
    mask[0, 9:] = mask[1, 1:] = mask[2, 5] = False
    with torch.no_grad():
        wanted = theirs(tokens(), attention_mask=mask.long()).last_hidden_state
        assert apart(ours(tokens(), mask), wanted) <= 1e-9
        assert apart(ours(tokens()), wanted) > 1e-3


@every_kind
def test_the_same_gradients(name: str):
    ours, theirs = pair(TINY[name])
    names = [key for key, _ in ours.named_parameters()]
    found = []
    for network in (ours, theirs):
        out = network(tokens())
        out = out if isinstance(out, Tensor) else out.last_hidden_state
        wanted = [network.get_parameter(key) for key in names]
        found.append(gradients(lambda out=out: out, wanted))
    assert max(apart(a, b) for a, b in zip(*found, strict=True)) <= 1e-9


@every_kind
def test_in_float32_as_close_as_rounding_allows(name: str):
    ours, theirs = pair(TINY[name])
    with torch.no_grad():
        wanted = theirs(tokens()).last_hidden_state
        assert apart(ours.float()(tokens()), wanted) <= 3e-6


def test_float16_has_room_for_large_sums():
    """As the published weights have them: a product and a sum beyond 65,504."""
    ours, _ = pair(TINY["tiny"])
    with torch.no_grad():
        for block in ours.encoder.block:
            for part in ("wi_0", "wi_1"):
                getattr(block.layer[1].DenseReluDense, part).weight *= 150
        wanted = ours(tokens())
        assert wanted.isfinite().all()
        assert apart(ours.half()(tokens()), wanted) < 2e-2


@pytest.mark.parametrize(("buckets", "most"), [(32, 128), (8, 5), (16, 20)])
def test_every_distance_has_its_bucket(buckets: int, most: int):
    places = torch.arange(700)
    distances = places - places[:, None]
    wanted = T5Attention._relative_position_bucket(
        distances, num_buckets=buckets, max_distance=most
    )
    assert torch.equal(buckets_of(distances, buckets, most), wanted)


def test_the_full_size_has_the_published_parameters():
    with torch.device("meta"):
        ours, theirs = T5Encoder(T5_XXL), T5EncoderModel(described(T5_XXL))
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    wanted = {key: value.shape for key, value in theirs.state_dict().items()}
    assert wanted.pop("encoder.embed_tokens.weight") == wanted["shared.weight"]
    assert shapes == wanted
    assert sum(p.numel() for p in ours.parameters()) == 4_762_310_656
