"""Hooks that change the rows they are told to, and leave nothing behind."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

from diptych.models.mmdit import MMDiT, MMDiTConfig
from diptych.nn.blocks import Block, SelfAttention
from diptych.nn.perturbation import identity_attention, skipped

Layer = TypeVar("Layer", bound=nn.Module)
ROWS = torch.tensor([True, False, True, False, False])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def made(layer: Layer) -> Layer:
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter.copy_(0.3 * drawn(*parameter.shape, seed=number))
    return layer.eval()


def hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


@pytest.fixture(scope="module", autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def test_a_skipped_block_gives_back_its_input_for_the_masked_rows_alone():
    chain, x = made(nn.Sequential(*(Block(32, 16, 64) for _ in range(3)))), drawn(5, 6, 32)
    plain, without = chain(x), nn.Sequential(chain[0], chain[2])(x)
    with skipped([chain[1]], ROWS):
        out = chain(x)
    assert torch.equal(out[~ROWS], plain[~ROWS]) and torch.equal(out[ROWS], without[ROWS])
    assert not torch.equal(out[ROWS], plain[ROWS])
    with skipped([chain[1]], ROWS):
        assert torch.equal(chain[1](x=x)[ROWS], x[ROWS])
    assert hooks(chain) == 0 and torch.equal(chain(x), plain)


def test_identity_attention_is_a_mask_that_shows_each_token_itself():
    layer, x = made(SelfAttention(32, 16)), drawn(5, 6, 32)
    plain, diagonal = layer(x), layer(x, None, torch.eye(6, dtype=torch.bool)[None, None])
    with identity_attention([layer], ROWS):
        out = layer(x)
        again = layer(x)
    assert torch.equal(out[~ROWS], plain[~ROWS]) and torch.equal(out, again)
    torch.testing.assert_close(out[ROWS], diagonal[ROWS])
    value = layer.qkv(x).chunk(3, dim=-1)[2]
    assert torch.equal(out[ROWS], layer.out(value)[ROWS])
    assert hooks(layer) == 0 and torch.equal(layer(x), plain)


def test_both_reach_into_a_joint_transformer():
    """Its blocks give back two streams, and attend outside of their attention's `forward`."""
    network = made(MMDiT(MMDiTConfig.tiny(depth=3)))
    x, words = drawn(5, 4, 4, 4), drawn(5, 7, 32, seed=1)
    inputs = (x, torch.full((5,), 0.5), words, torch.ones(5, 7, dtype=torch.bool), words[:, 0])
    plain = network(*inputs)[0]
    shorter = MMDiT(network.config).eval()
    shorter.load_state_dict(network.state_dict())
    del shorter.blocks[1]
    blocks: Any = network.blocks
    with skipped([blocks[1]], ROWS):
        out = network(*inputs)[0]
    assert torch.equal(out[ROWS], shorter(*inputs)[0][ROWS])
    assert torch.equal(out[~ROWS], plain[~ROWS])
    with identity_attention([block.picture.attention for block in blocks], ROWS):
        out = network(*inputs)[0]
    changed = (out != plain).flatten(1).any(dim=1)
    assert torch.equal(changed, ROWS) and hooks(network) == 0


@pytest.mark.parametrize("change", [skipped, identity_attention])
def test_hooks_go_when_the_network_fails(change):
    layer = made(SelfAttention(32, 16))
    with pytest.raises(RuntimeError), change([layer], ROWS):
        assert hooks(layer) > 0
        layer(drawn(5, 6, 31))
    assert hooks(layer) == 0
    with pytest.raises(AttributeError), change([layer, object()], ROWS):
        raise AssertionError("never reached")
    assert hooks(layer) == 0


def test_rows_and_shapes_that_do_not_fit_are_an_error():
    layer, x = made(nn.Linear(8, 4)), drawn(5, 8)
    with skipped([layer], ROWS), pytest.raises(RuntimeError):
        layer(x)
    longer = nn.Upsample(scale_factor=2)
    with skipped([longer], ROWS), pytest.raises(RuntimeError):
        longer(drawn(5, 8, 1))
    square = made(nn.Linear(8, 8))
    with skipped([square], ROWS[:1]), pytest.raises(RuntimeError):
        square(x)
