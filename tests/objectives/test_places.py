"""A batch stands where its path says, row by row."""

from __future__ import annotations

from math import inf

import pytest
import torch

from diptych.diffusion.paths import (
    FlowPath,
    Path,
    VarianceExploding,
    VariancePreserving,
    cosine_betas,
    scaled_linear_betas,
    vp_of_betas,
    zero_terminal,
)
from diptych.objectives.places import Places, at_rhos, at_times

SD = vp_of_betas(scaled_linear_betas())
STEPS = [SD, zero_terminal(SD), vp_of_betas(cosine_betas(100))]
FLOWS = [FlowPath(), FlowPath(1000.0), FlowPath(time_scale=1.0, reversed=True)]


def _agree(places: Places, nodes: list, atol: float = 1e-14) -> None:
    for name, found in places._asdict().items():
        wanted = torch.tensor([getattr(node, name) for node in nodes], dtype=torch.float64)
        torch.testing.assert_close(found, wanted, rtol=1e-13, atol=atol, msg=name)


@pytest.mark.parametrize("path", FLOWS)
def test_times_of_a_flow(path: FlowPath):
    times = torch.tensor([0.0, 1e-7, 0.3, 0.5, 0.999, 1.0], dtype=torch.float64)
    _agree(at_times(path, times), [path.at(float(t)) for t in times], atol=0)


@pytest.mark.parametrize("path", STEPS)
def test_steps_of_a_schedule(path: VariancePreserving):
    steps = torch.tensor([0, 1, 37, len(path.rhos) - 2, len(path.rhos) - 1])
    _agree(at_times(path, steps), [path.at(float(step)) for step in steps], atol=0)
    with pytest.raises(TypeError, match="whole steps"):
        at_times(path, steps + 0.5)


@pytest.mark.parametrize("path", [*FLOWS, *STEPS, VarianceExploding()])
def test_ratios_on_every_path(path: Path):
    first, last = path.start, path.end
    high, low = min(first, 1e4), max(last, 1e-4)
    rhos = torch.logspace(*torch.tensor([low, high]).log10().tolist(), 200, dtype=torch.float64)
    rhos = torch.cat([rhos.clamp(low, high), torch.tensor([first, last, 0.0])])
    # The time is a quotient of differences of logarithms: a few digits are lost there.
    _agree(at_rhos(path, rhos), [path.node(float(rho)) for rho in rhos], atol=1e-10)


def test_another_path_is_asked_row_by_row():
    class Tilted(FlowPath):
        pass

    assert at_times(Tilted(), torch.tensor([0.25])).alpha.tolist() == [0.75]
    rhos = torch.tensor([0.5, inf])
    known, asked = at_rhos(FlowPath(), rhos), at_rhos(Tilted(), rhos)
    assert all(torch.equal(a, b) for a, b in zip(known, asked, strict=True))
