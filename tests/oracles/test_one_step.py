"""Solvers without memory, and with several evaluations a step: the same ways as diffusers'."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from diffusers import (
    CMStochasticIterativeScheduler,
    DDIMInverseScheduler,
    DDIMScheduler,
    DDPMScheduler,
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    TCDScheduler,
)
from peers import (
    FLOW,
    PREDICTED,
    SD,
    VP,
    Case,
    called,
    check,
    flow,
    made,
    of_sigmas,
    of_times,
    ve,
)

from diptych.diffusion.paths import Node, VarianceExploding, cosine_betas, vp_of_betas
from diptych.diffusion.predictions import Prediction
from diptych.diffusion.spacings import nodes_of

# Their grids call numpy in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")
VE = VarianceExploding()


def flow_made(kind: type, steps: int, **options: Any) -> Any:
    """As pipelines of flows do it: the shift is applied to even times, once."""
    peer = kind(**options)
    peer.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
    return peer


DDIM = [
    Case(
        partial(made, DDIMScheduler, 10, clip_sample=False, prediction_type=PREDICTED[prediction],
                timestep_spacing=spacing),
        "ddim", of_times(), prediction, options={"eta": eta}, said={"eta": eta}, noisy=eta > 0,
    )
    for eta in (0.0, 0.5, 1.0) for prediction in PREDICTED for spacing in ("leading", "trailing")
]  # fmt: skip
COSINE = vp_of_betas(cosine_betas())
DDPM = [
    Case(
        partial(made, DDPMScheduler, 20, clip_sample=False, prediction_type=PREDICTED[prediction],
                variance_type=kind),
        solver, of_times(), prediction, noisy=True,
    )
    for prediction in PREDICTED
    for kind, solver in (("fixed_small", "ddpm"), ("fixed_large", "ddpm-large"))
]  # fmt: skip
COSINES = [
    Case(
        partial(made, DDPMScheduler, 20, betas={"beta_schedule": "squaredcos_cap_v2"},
                clip_sample=False, prediction_type="v_prediction"),
        "euler-ancestral", of_times(COSINE), "v", COSINE, noisy=True,
    )
]  # fmt: skip
IN_RHO = [
    Case(
        partial(made, kind, 12, prediction_type=PREDICTED[prediction], **options),
        solver,
        of_sigmas(every=every),
        prediction,
        noisy=noisy,
        exploding=True,
    )
    for kind, solver, every, noisy in (
        (EulerDiscreteScheduler, "euler", 1, False),
        (EulerAncestralDiscreteScheduler, "euler-ancestral", 1, True),
        (HeunDiscreteScheduler, "heun", 1, False),
        (KDPM2DiscreteScheduler, "dpm-solver-2", 2, False),
    )
    for prediction in ("eps", "v")
    for options in (
        {"timestep_spacing": "linspace"},
        {"timestep_spacing": "trailing"},
        {"timestep_spacing": "linspace", "use_karras_sigmas": True},
    )
    if not (noisy and "use_karras_sigmas" in options)
]
FLOWS = [
    Case(
        partial(flow_made, FlowMatchEulerDiscreteScheduler, 8, shift=3.0),
        "euler", lambda _: nodes_of("trailing", FLOW, 8, shift=3.0), "velocity", FLOW,
    ),
    Case(
        partial(made, FlowMatchEulerDiscreteScheduler, 8, betas={}, shift=3.0),
        "flow-euler", of_sigmas(flow), "velocity", FLOW,
    ),
    Case(
        partial(made, FlowMatchHeunDiscreteScheduler, 8, betas={}, shift=3.0),
        "heun", of_sigmas(flow), "velocity", FLOW,
    ),
    Case(
        partial(made, FlowMatchEulerDiscreteScheduler, 8, betas={}, stochastic_sampling=True),
        "consistency", of_sigmas(flow), "velocity", FLOW, noisy=True,
    ),
]  # fmt: skip


def lcm_near_data() -> Any:
    """Times at which its boundary is felt."""
    peer = LCMScheduler(**SD)
    peer.set_timesteps(timesteps=[999, 400, 8, 2, 1], original_inference_steps=1000)
    return peer


def boundary(node: Node) -> tuple[float, float]:
    """c_skip and c_out of consistency models, which are 1 and 0 at 0.002 (Song et al., 2023)."""
    above = node.rho - 0.002
    return 0.25 / (above**2 + 0.25), above * 0.5 / (node.rho**2 + 0.25) ** 0.5


def said(node: Node) -> tuple[float, float]:
    """The weights that make x0 = c_skip x + c_out out of it; alpha is 1 here."""
    skip = boundary(node)[0]
    return skip, (skip - 1) / node.sigma


CONSISTENT = Prediction(
    "consistent",
    said,
    factor=lambda n: -boundary(n)[1] / n.sigma,
    scale=lambda n: 1 / (n.rho**2 + 0.25) ** 0.5,
)
FEW = [
    Case(lcm_near_data, "lcm", of_times(), noisy=True),
    *(
        Case(
            partial(made, LCMScheduler, 4, prediction_type=PREDICTED[prediction]),
            "lcm", of_times(), prediction, noisy=True,
        )
        for prediction in PREDICTED
    ),
    *(
        Case(
            partial(made, TCDScheduler, 5, prediction_type=PREDICTED[prediction]),
            "tcd", of_times(end=VP.at(0.0)), prediction, noisy=gamma > 0,
            options={"gamma": gamma}, said={"eta": gamma},
        )
        for prediction in PREDICTED for gamma in (0.0, 0.3, 1.0)
    ),
    Case(
        partial(made, CMStochasticIterativeScheduler, 6, betas={}, clip_denoised=False),
        "consistency", of_sigmas(ve), CONSISTENT, VE, noisy=True,
        options={"kept": 0.002},
    ),
]  # fmt: skip
EDM = [
    Case(
        partial(made, EDMEulerScheduler, 12, betas={}, sigma_schedule=schedule),
        "euler", lambda _, name=name: nodes_of(name, VE, 12), "edm", VE, unit=1.0,
    )
    for schedule, name in (("karras", "karras"), ("exponential", "exponential"))
]  # fmt: skip


@pytest.mark.parametrize("case", [*DDIM, *DDPM, *COSINES, *IN_RHO, *FLOWS, *FEW, *EDM], ids=called)
def test_the_way_is_the_same(case: Case):
    check(case)


def test_inversion_is_the_same_step():
    """Theirs asks at the beginning of a step and tells the time of its end."""

    def rising(peer: Any) -> list[Node]:
        times = peer.timesteps.tolist()
        begins = [VP.node(0.0), *(VP.at(t) for t in times[:-1])]
        return [*(replace(n, time=t) for n, t in zip(begins, times, strict=True)), VP.at(times[-1])]

    check(Case(partial(made, DDIMInverseScheduler, 10, clip_sample=False), "euler", rising))
