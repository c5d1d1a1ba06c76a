"""Eight bits: near the exact map by a known bound, and no row knows its neighbours."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diptych.compression.int8 import Int8Linear, bytes_of, coded, to_int8
from diptych.foundation.errors import InvalidValue
from diptych.nn.blocks import RowLinear


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


def test_codes_are_within_half_a_step_and_reach_both_ends():
    rows = torch.randn(50, 70, generator=torch.Generator().manual_seed(0)) * 3
    rows[7] = 0
    codes, scale = coded(rows)
    assert (
        codes.dtype == torch.int8 and codes.abs().amax(1).tolist() == [127] * 7 + [0] + [127] * 42
    )
    assert ((codes * scale - rows).abs() <= scale / 2 * (1 + 1e-5)).all()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_sums_are_those_of_the_codes(bias: bool, kind: torch.dtype):
    """What it computes, done in float64 from codes and scales."""
    torch.manual_seed(0)
    linear = nn.Linear(130, 97, bias=bias).to(kind)
    eight = Int8Linear(linear)
    x = torch.randn(2, 5, 130, dtype=kind)
    codes, scale = coded(x.flatten(0, 1))
    weight = eight.codes.double() * eight.scale.double()[:, None]
    wanted = (codes.double() * scale.double()) @ weight.T
    wanted = (wanted + (linear.bias.double() if bias else 0)).unflatten(0, (2, 5))
    said = eight(x)
    assert said.shape == (2, 5, 97) and said.dtype == kind
    near = 1e-6 if kind == torch.float32 else 2e-2
    assert (said.double() - wanted).abs().max() <= near * wanted.abs().max()


def test_it_is_near_the_exact_map():
    torch.manual_seed(0)
    linear = nn.Linear(512, 256)
    x = torch.randn(64, 512)
    apart = Int8Linear(linear)(x) - linear(x)
    assert 1e-4 < apart.square().mean().sqrt() / linear(x).square().mean().sqrt() < 0.02


def test_a_row_does_not_know_its_neighbours():
    torch.manual_seed(0)
    eight, x = Int8Linear(nn.Linear(256, 320)), torch.randn(37, 256)
    x[3] *= 1000  # one scale for all would be coarse for the others
    together = eight(x)
    for rows in (1, 2, 5, 16, 36):
        for at in range(0, len(x) - rows + 1, 7):
            assert torch.equal(eight(x[at : at + rows]), together[at : at + rows])


def test_what_is_told_to_every_token_and_narrow_maps_stay():
    network = nn.Sequential(
        nn.Linear(128, 256),
        RowLinear(128, 256),
        nn.Linear(128, 16),
        nn.ModuleList([nn.Linear(96, 96)]),
    )
    before = bytes_of(network)
    kept = network[1], network[2]
    assert to_int8(network) == 2
    assert isinstance(network[0], Int8Linear) and isinstance(network[3][0], Int8Linear)
    assert (network[1], network[2]) == kept
    saved = 3 * (128 * 256 + 96 * 96) - 4 * (256 + 96)  # a byte for four, and the scales
    assert before - bytes_of(network) == saved
    with pytest.raises(InvalidValue, match="win nothing"):
        to_int8(nn.Linear(8, 8))
