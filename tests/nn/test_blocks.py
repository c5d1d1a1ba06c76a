"""Blocks against independent formulas, and the rows that must not know each other."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear

from diptych.nn.attention import attend
from diptych.nn.blocks import Block, RowLinear
from diptych.nn.norms import RMSNorm
from diptych.nn.positions import grid, rotary, rotate, sine_features


def _drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_attention_is_softmax_over_what_may_be_seen():
    q, k, v = (_drawn(2, 3, 5, 8, seed=i) for i in range(3))
    mask = _drawn(2, 1, 5, 5, seed=3) > 0
    mask |= torch.eye(5, dtype=torch.bool)
    scores = (q @ k.mT / 8**0.5).masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(attend(q, k, v, mask), scores.softmax(-1) @ v)


def test_attention_in_float64_stays_in_float64():
    q, k, v = (_drawn(2, 3, 5, 8, seed=i).double() for i in range(3))
    out = (q @ k.mT / 8**0.5).softmax(-1) @ v
    torch.testing.assert_close(attend(q, k, v), out, rtol=1e-13, atol=1e-13)


def test_attention_stays_exact_under_autocast():
    q, k, v = (_drawn(2, 3, 40, 16, seed=i) for i in range(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(attend(q, k, v), attend(q, k, v))
        inside = attend(q, k, v)
    torch.testing.assert_close(inside, attend(q, k, v), rtol=0, atol=0)


def test_norm_has_unit_mean_square_times_its_gain():
    norm = RMSNorm(16)
    torch.nn.init.normal_(norm.weight)
    x = _drawn(4, 16)
    torch.testing.assert_close(norm(x), x / x.square().mean(-1, keepdim=True).sqrt() * norm.weight)


@pytest.mark.parametrize("axes", [1, 2])
def test_rotary_scores_depend_on_differences_of_positions_only(axes: int):
    q, k = _drawn(1, 1, 1, 16, seed=1), _drawn(1, 1, 1, 16, seed=2)

    def score(at: int, other: int) -> torch.Tensor:
        places = [rotary(torch.full((1, axes), p), 16) for p in (at, other)]
        return (rotate(q, places[0]) * rotate(k, places[1])).sum()

    torch.testing.assert_close(score(3, 7), score(13, 17))
    assert not torch.allclose(score(3, 7), score(3, 8))
    torch.testing.assert_close(rotate(q, rotary(torch.full((1, axes), 5), 16)).norm(), q.norm())


def test_grid_is_in_reading_order():
    assert grid(2, 3).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


def test_sine_features_tell_all_values_apart():
    features = sine_features(torch.linspace(0, 1, 101), 64, period=4, octaves=9)
    distances = torch.cdist(features, features) + 10 * torch.eye(101)
    assert features.abs().max() <= 1 and distances.min() > 0.05


@pytest.mark.parametrize("rows", range(1, 17))
def test_rows_of_a_row_linear_have_the_bits_they_have_alone(rows: int):
    for width, wide in ((96, 192), (320, 1280)):
        layer, x = RowLinear(width, wide), _drawn(16, width)
        with torch.no_grad():
            together = layer(x[:rows])
            alone = torch.cat([layer(x[i : i + 1]) for i in range(rows)])
        assert torch.equal(together, alone)
        torch.testing.assert_close(together, linear(x[:rows], layer.weight, layer.bias))


def test_a_masked_token_changes_nothing():
    block = Block(32, 16, 64)
    x = _drawn(2, 6, 32)
    mask = torch.tensor([True] * 4 + [False] * 2)[None, None, None]
    changed = torch.cat([x[:, :4], _drawn(2, 2, 32, seed=9)], dim=1)
    first, second = block(x, None, mask)[:, :4], block(changed, None, mask)[:, :4]
    torch.testing.assert_close(first, second, rtol=0, atol=0)
