"""What diffusers 0.42 gets wrong in where it stops, beside ours on the same exact data.

Each test first shows the defect there, then that ours has it not. The figures are those of
docs/disagreements.md.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from peers import FLOW, SD, VP, made, vp
from perfect import (
    DATA,
    begin_at,
    by_flow_time,
    by_ratio,
    by_sigma,
    by_step,
    end_of,
    missed,
    missed_by,
    near,
)

from benchmarks.exact import solve
from diptych.diffusion.solvers import table_of
from diptych.diffusion.spacings import nodes_of
from diptych.foundation.errors import InvalidValue

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered in log:RuntimeWarning"),
]
NOISE = VP.at(999)
TO_FLOW = {"betas": {}, "use_flow_sigmas": True, "prediction_type": "flow_prediction"}


def test_01_trailing_has_a_step_too_many():
    peer = made(DDIMScheduler, 61, timestep_spacing="trailing", clip_sample=False)
    assert len(peer.timesteps) == 62 and peer.timesteps[-1] == -1
    assert missed_by(peer, "eps", by_step, NOISE) == near(0.73)
    nodes = nodes_of("trailing", VP, 61)
    assert len(nodes) == 62 and nodes[-1].rho == 0 and nodes[-2].time == 15
    assert missed("euler", VP, nodes, "eps") == near(0.021)


@pytest.mark.parametrize(("steps", "there", "here"), [(80, 0.115, 0.0165), (300, 0.28, 0.0058)])
def test_02_ddim_steps_to_another_place_than_the_next(steps: int, there: float, here: float):
    peer = made(DDIMScheduler, steps, timestep_spacing="trailing", clip_sample=False)
    assert missed_by(peer, "eps", by_step, NOISE) == near(there)
    assert missed("euler", VP, nodes_of("trailing", VP, steps), "eps") == near(here)


@pytest.mark.parametrize(
    "kind", [DPMSolverMultistepScheduler, UniPCMultistepScheduler, DEISMultistepScheduler]
)
def test_03_beta_looks_its_first_step_up_by_a_time_that_is_there_twice(kind: type):
    peer = made(kind, 50, use_beta_sigmas=True)
    with pytest.raises((IndexError, AssertionError)):
        end_of(peer, "eps", by_ratio, NOISE)
    nodes = nodes_of("beta", VP, 50)
    for name in ("dpmpp-2m", "unipc", "deis"):
        assert missed(name, VP, nodes, "eps") < 0.02


@pytest.mark.parametrize(
    "kind",
    [DPMSolverMultistepScheduler, DPMSolverSinglestepScheduler, DEISMultistepScheduler],
)
@pytest.mark.parametrize("spacing", ["karras", "exponential", "beta"])
def test_05_a_flow_takes_the_range_of_another_path(kind: type, spacing: str):
    peer = made(kind, 10, **TO_FLOW, **{f"use_{spacing}_sigmas": True})
    assert peer.sigmas[0] == near(157)  # of times from 0 to 1
    assert end_of(peer, "velocity", lambda *_: FLOW.at(0.5), FLOW.at(1.0)).isnan().all()
    if spacing != "beta":
        with pytest.raises(InvalidValue, match="first="):
            nodes_of(spacing, FLOW, 10)
    options = {"first": 100.0, "last": 0.01} if spacing != "beta" else {}
    assert missed("dpmpp-2m", FLOW, nodes_of(spacing, FLOW, 20, **options), "velocity") < 0.03


def test_07_one_step_of_linspace_begins_at_data():
    for kind in (DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler,
                 LMSDiscreteScheduler):  # fmt: skip
        assert made(kind, 1, timestep_spacing="linspace").timesteps.tolist() == [0]
    peer = made(DDIMScheduler, 1, timestep_spacing="linspace", clip_sample=False)
    noise = begin_at(NOISE)
    returned = end_of(peer, "eps", by_step, NOISE)
    assert float((returned - noise).abs().max()) < 0.02  # the noise it was given
    nodes = nodes_of("linspace", VP, 1)
    end = solve(DATA, table_of("euler", VP, nodes, "eps"), "eps", noise)
    torch.testing.assert_close(end, DATA.x0(noise, NOISE))  # all that one step can know


@pytest.mark.parametrize(("steps", "lowest", "highest"), [(4, 0.69, 4.1), (10, 0.34, 8.3)])
def test_08_karras_over_what_another_list_left(steps: int, lowest: float, highest: float):
    options = {"use_karras_sigmas": True}
    peer = made(EulerDiscreteScheduler, steps, timestep_spacing="trailing", **options)
    assert peer.sigmas[-2] == near(lowest)
    peer = made(EulerDiscreteScheduler, steps, timestep_spacing="leading", **options)
    assert peer.sigmas[0] == near(highest)
    nodes = nodes_of("karras", VP, steps)
    assert (nodes[0].rho, nodes[-2].rho) == (VP.start, VP.end)
    assert (VP.start, VP.end) == (near(14.6), near(0.0292))


@pytest.mark.parametrize(("steps", "there", "here"), [(2, 0.80, 0.56), (4, 0.40, 0.31)])
def test_09_a_flow_shifted_twice_spends_a_step_on_nothing(steps: int, there: float, here: float):
    peer = made(FlowMatchEulerDiscreteScheduler, 28, betas={}, shift=3.0)
    assert peer.sigmas[-3:].tolist() == [near(0.111), near(0.0089), 0.0]
    peer = made(FlowMatchEulerDiscreteScheduler, steps, betas={}, shift=3.0)
    assert missed_by(peer, "velocity", by_sigma, FLOW.at(1.0)) == near(there)
    nodes = nodes_of("trailing", FLOW, steps, shift=3.0)
    assert missed("euler", FLOW, nodes, "velocity") == near(here)


def test_10_times_cut_to_whole_numbers():
    """The perfect network believes the time it is told. Told the true one, theirs is right."""
    for at, there in ((by_flow_time, 8.3e-4), (by_sigma, 3.3e-6)):
        peer = made(UniPCMultistepScheduler, 320, **TO_FLOW)
        first = FLOW.at(float(peer.sigmas[0]))
        found = missed_by(peer, "velocity", at, first)
        assert found == near(there) if at is by_flow_time else found < 1e-5
    assert missed("unipc", FLOW, nodes_of("trailing", FLOW, 320), "velocity") == near(2.0e-5)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_17_pndm_with_few_steps(steps: int):
    peer = PNDMScheduler(**SD)
    with pytest.raises(ValueError, match="broadcast"):
        peer.set_timesteps(steps)
    assert missed("pndm", VP, nodes_of("trailing", VP, steps), "eps") < 2.5


@pytest.mark.parametrize(
    ("kind", "steps", "unread"),
    [
        (LCMScheduler, 4, {"timestep_spacing": "trailing"}),
        (TCDScheduler, 4, {"timestep_spacing": "trailing"}),
        (EulerDiscreteScheduler, 10, {"sigma_max": 5.0}),
        (UniPCMultistepScheduler, 10, {"sigma_min": 0.5}),
        (DPMSolverMultistepScheduler, 10,
         {"use_karras_sigmas": True, "timestep_spacing": "leading"}),
    ],
)  # fmt: skip
def test_18_options_that_nobody_reads(kind: type, steps: int, unread: dict[str, Any]):
    read = {k: v for k, v in unread.items() if k == "use_karras_sigmas"}
    with_it, without = made(kind, steps, **unread), made(kind, steps, **read)
    assert torch.equal(with_it.timesteps, without.timesteps)
    if hasattr(with_it, "sigmas"):
        assert torch.equal(with_it.sigmas, without.sigmas)


@pytest.mark.parametrize(("steps", "there", "here"), [(10, 0.22, 0.037), (20, 0.14, 0.0137)])
def test_23_beta_over_ratios_instead_of_times(steps: int, there: float, here: float):
    peer = made(DPMSolverMultistepScheduler, steps, use_beta_sigmas=True)
    assert missed_by(peer, "eps", by_ratio, vp(float(peer.sigmas[0]), 999.0)) == near(there)
    assert missed("dpmpp-2m", VP, nodes_of("beta", VP, steps), "eps") == near(here)
