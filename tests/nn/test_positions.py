"""Turns of neighbouring dimensions, on the CPU and elsewhere."""

from __future__ import annotations

import pytest
import torch

from diptych.nn.positions import rotary_pairs, rotate_pairs


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads_first", [True, False])
def test_neighbours_are_turned(kind: torch.dtype, heads_first: bool):
    """As written out, whatever order of memory the heads come in."""
    shape = (2, 3, 5, 16) if heads_first else (2, 5, 3, 16)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (x if heads_first else x.transpose(1, 2)).to(kind)
    turns = rotary_pairs(torch.arange(15.0).reshape(5, 3), (4, 4, 8))
    found = rotate_pairs(x, turns)
    wide = torch.promote_types(kind, torch.float32)
    (cos, sin), given = turns.to(wide), x.to(wide)
    for k in range(8):
        a, b = given[..., 2 * k], given[..., 2 * k + 1]
        pair = a * cos[:, k] - b * sin[:, k], b * cos[:, k] + a * sin[:, k]
        torch.testing.assert_close(found[..., 2 * k], pair[0].to(kind), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found[..., 2 * k + 1], pair[1].to(kind), rtol=1e-6, atol=1e-6)
    assert found.dtype == kind
