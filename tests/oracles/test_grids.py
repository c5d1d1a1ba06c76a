"""Paths and lists of nodes: equal to diffusers' where theirs are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from peers import FLOW, SD, VP, made

from diptych.diffusion.paths import (
    FlowPath,
    VarianceExploding,
    VariancePreserving,
    cosine_betas,
    linear_betas,
    sigmoid_betas,
    vp_of_betas,
    zero_terminal,
)
from diptych.diffusion.spacings import nodes_of, shift_for_tokens

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")
ZERO = zero_terminal(VP)
PATHS: dict[str, tuple[Callable[[], Any], VariancePreserving]] = {
    "scaled-linear": (lambda: DDIMScheduler(**SD), VP),
    "linear": (DDIMScheduler, vp_of_betas(linear_betas())),
    "cosine": (
        lambda: DDIMScheduler(beta_schedule="squaredcos_cap_v2"),
        vp_of_betas(cosine_betas()),
    ),
    "sigmoid": (lambda: DDPMScheduler(beta_schedule="sigmoid"), vp_of_betas(sigmoid_betas())),
    "zero-terminal": (lambda: DDIMScheduler(rescale_betas_zero_snr=True, **SD), ZERO),
}


@pytest.mark.parametrize("name", PATHS)
def test_alpha_and_sigma_of_every_training_step(name: str):
    make, path = PATHS[name]
    kept = make().alphas_cumprod.double().numpy()
    nodes = [path.at(float(t)) for t in range(1000)]
    np.testing.assert_allclose([n.alpha for n in nodes], np.sqrt(kept), rtol=0, atol=1e-6)
    # Near data theirs is 1 minus a float32 that is almost 1, so less is left of sigma.
    np.testing.assert_allclose([n.sigma for n in nodes], np.sqrt(1 - kept), rtol=0, atol=1e-5)


def times(spacing: str, steps: int, path: VariancePreserving = VP, **options: Any) -> list[float]:
    return [node.time for node in nodes_of(spacing, path, steps, **options)[:-1]]


@pytest.mark.parametrize("offset", [0, 1])
def test_leading(offset: int):
    peer = DDIMScheduler(timestep_spacing="leading", steps_offset=offset)
    for steps in range(1, 1000):
        peer.set_timesteps(steps)
        if peer.timesteps[0] > 999:  # one past the table: ours refuses it
            continue
        assert peer.timesteps.tolist() == times("leading", steps, offset=offset)


def test_trailing_where_theirs_has_as_many_steps_as_were_asked_for():
    """Where a time falls midway between two steps, theirs goes as its float happens to lie."""
    peer, alike = DDIMScheduler(timestep_spacing="trailing"), 0
    for steps in range(1, 1001):
        peer.set_timesteps(steps)
        if len(peer.timesteps) != steps:
            continue
        alike += 1
        midway = 2000 * np.arange(steps, 0, -1) % (2 * steps) == steps
        assert (abs(peer.timesteps.numpy() - times("trailing", steps)) <= midway).all()
    assert alike == 1000 - 62


@pytest.mark.parametrize("steps", [3, 9, 27, 37, 111, 333])
def test_linspace_where_it_falls_on_whole_steps(steps: int):
    peer = made(DPMSolverMultistepScheduler, steps, timestep_spacing="linspace")
    assert peer.timesteps.tolist() == times("linspace", steps)


@pytest.mark.parametrize("steps", [2, 5, 20, 100])
@pytest.mark.parametrize(
    ("spacing", "flag"),
    [("karras", "use_karras_sigmas"), ("exponential", "use_exponential_sigmas"),
     ("exponential", "use_lu_lambdas")],
)  # fmt: skip
def test_ratios_over_the_trained_range(spacing: str, flag: str, steps: int):
    peer = made(DPMSolverMultistepScheduler, steps, **{flag: True})
    nodes = nodes_of(spacing, VP, steps)
    np.testing.assert_allclose([n.rho for n in nodes], peer.sigmas, rtol=3e-5)
    # Theirs cuts or rounds the times to whole steps.
    assert np.abs(np.array([n.time for n in nodes[:-1]]) - peer.timesteps.numpy()).max() < 1.01


@pytest.mark.parametrize("spacing", ["karras", "exponential"])
def test_ratios_of_edm_and_its_times(spacing: str):
    peer = made(EDMEulerScheduler, 18, betas={}, sigma_schedule=spacing)
    nodes = nodes_of(spacing, VarianceExploding(), 18)
    np.testing.assert_allclose([n.rho for n in nodes], peer.sigmas, rtol=1e-5)
    np.testing.assert_allclose([n.time for n in nodes[:-1]], peer.timesteps, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 7, 28])
@pytest.mark.parametrize("shift", [1.0, 3.0, 6.0])
def test_a_shifted_flow_as_pipelines_pass_it(shift: float, steps: int):
    peer = FlowMatchEulerDiscreteScheduler(shift=shift)
    peer.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
    nodes = nodes_of("trailing", FLOW, steps, shift=shift)
    np.testing.assert_allclose([n.sigma for n in nodes], peer.sigmas, rtol=0, atol=1e-6)
    np.testing.assert_allclose([n.time for n in nodes[:-1]], peer.timesteps, rtol=0, atol=1e-3)


@pytest.mark.parametrize("tokens", [256, 1024, 4096])
def test_the_shift_of_flux(tokens: int):
    mu = 0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256)
    peer = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    peer.set_timesteps(sigmas=np.linspace(1, 1 / 20, 20), mu=mu)
    nodes = nodes_of("trailing", FLOW, 20, shift=shift_for_tokens(tokens))
    np.testing.assert_allclose([n.sigma for n in nodes], peer.sigmas, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_beta_on_a_flow_from_noise_to_data(steps: int):
    """Given a range of 1 to 0 and one node more, theirs is the list over the times as well."""
    peer = FlowMatchEulerDiscreteScheduler(use_beta_sigmas=True)
    peer.set_timesteps(sigmas=np.linspace(1, 0, steps + 1))
    nodes = nodes_of("beta", FlowPath(), steps)
    np.testing.assert_allclose([n.sigma for n in nodes], peer.sigmas[:-1], rtol=0, atol=1e-6)
