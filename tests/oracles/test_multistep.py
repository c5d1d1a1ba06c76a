"""Solvers that remember, singlestep DPM-Solver, and noise put back: the same ways as diffusers'.

From the third order on ours correct their first step and theirs do not, so that the ways part
there. Those are compared step by step: ours is set back onto their way before each.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import atan2, pi
from typing import Any

import pytest
from diffusers import (
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EDMDPMSolverMultistepScheduler,
    IPNDMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from peers import (
    EVEN,
    FLOW,
    PREDICTED,
    VP,
    Case,
    betas_of,
    called,
    check,
    flow,
    led,
    made,
    of_sigmas,
    of_times,
    same,
    start,
    theirs,
)

from diptych.diffusion.paths import Node, VarianceExploding
from diptych.diffusion.spacings import nodes_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*algorithm_type.*is deprecated:FutureWarning"),
]
VE = VarianceExploding()
# Theirs lower the order towards the end of short lists; ours only where a step ends at data.
FULL = {"lower_order_final": False}

EXPONENTIAL = [
    Case(
        partial(made, DPMSolverMultistepScheduler, 12, prediction_type=PREDICTED[prediction],
                **FULL, **options, **grid),
        solver, nodes, prediction, noisy="sde" in solver,
    )
    for prediction in PREDICTED
    for solver, options in (
        ("dpmpp-2m", {}),
        ("dpmpp-2m-heun", {"solver_type": "heun"}),
        ("dpmpp-3m", {"solver_order": 3}),
        ("dpmpp-2m-sde", {"algorithm_type": "sde-dpmsolver++"}),
        ("exp-ab2-sde", {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"}),
        ("dpmpp-1", {"solver_order": 1}),
        ("dpmpp-sde-1", {"solver_order": 1, "algorithm_type": "sde-dpmsolver++"}),
    )
    for grid, nodes in (
        ({"timestep_spacing": "trailing"}, of_times()),
        ({"use_karras_sigmas": True}, of_sigmas()),
    )
]  # fmt: skip
UNIPC = [
    Case(
        partial(made, UniPCMultistepScheduler, 12, solver_order=order, solver_type=kind,
                prediction_type=PREDICTED[prediction], final_sigmas_type=end,
                lower_order_final=end == "zero", timestep_spacing="linspace"),
        name, of_sigmas(), prediction,
    )
    for prediction in PREDICTED
    for name, order, kind, ends in (
        ("unipc-1", 1, "bh2", ("zero", "sigma_min")),
        ("unipc", 2, "bh2", ("zero", "sigma_min")),
        ("unipc-3", 3, "bh2", ("sigma_min",)),
        ("unipc-bh1", 2, "bh1", ("sigma_min",)),
    )
    for end in ends
]  # fmt: skip
FLOWS = [
    Case(
        partial(made, kind, 12, betas={}, use_flow_sigmas=True, flow_shift=3.0,
                prediction_type="flow_prediction", **options),
        name, of_sigmas(flow), "velocity", FLOW,
    )
    for kind, options, name in (
        (DPMSolverMultistepScheduler, FULL, "dpmpp-2m"),
        (DPMSolverMultistepScheduler, {"solver_order": 3, **FULL}, "dpmpp-3m"),
        (UniPCMultistepScheduler, {}, "unipc"),
    )
]  # fmt: skip
OLD = [
    *(
        Case(
            partial(made, LMSDiscreteScheduler, 12, prediction_type=PREDICTED[prediction]),
            "lms", of_sigmas(), prediction, said={"order": 2}, exploding=True,
        )
        for prediction in PREDICTED
    ),
    *(
        Case(
            partial(made, DEISMultistepScheduler, 12, solver_order=order, **FULL,
                    prediction_type=PREDICTED[prediction]),
            name, of_sigmas(), prediction,
        )
        for prediction in PREDICTED for name, order in (("deis", 2), ("deis-1", 1))
    ),
    *(
        Case(
            partial(made, PNDMScheduler, steps, skip_prk_steps=True, set_alpha_to_one=False,
                    steps_offset=1),
            "plms",
            lambda _, n=steps: nodes_of("leading", VP, n, offset=1, ends="trained"),
        )
        for steps in (2, 3, 4, 5, 10)
    ),
]  # fmt: skip
EDM = [
    Case(
        partial(made, EDMDPMSolverMultistepScheduler, 12, betas={}, **FULL, **options),
        solver, lambda _: nodes_of("karras", VE, 12), "edm", VE, noisy="sde" in solver, unit=1.0,
    )
    for solver, options in (
        ("dpmpp-2m", {}),
        ("dpmpp-3m", {"solver_order": 3}),
        ("dpmpp-2m-sde", {"algorithm_type": "sde-dpmsolver++"}),
    )
]  # fmt: skip


@pytest.mark.parametrize("case", [*EXPONENTIAL, *UNIPC, *FLOWS, *OLD, *EDM], ids=called)
def test_the_way_is_the_same(case: Case):
    check(case)


@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize("name", ["deis-3", "lms-4"])
def test_each_step_is_the_same_after_the_start(name: str, prediction: str):
    make = {
        "deis-3": partial(made, DEISMultistepScheduler, 12, solver_order=3, **FULL),
        "lms-4": partial(made, LMSDiscreteScheduler, 12),
    }[name]
    case = Case(
        partial(make, prediction_type=PREDICTED[prediction]),
        name, of_sigmas(), prediction, exploding=name == "lms-4",
    )  # fmt: skip
    peer = case.peer()
    table = case.table(peer)
    x = start(table.nodes[0], case.exploding)
    way = theirs(peer, x, case)
    back = led(table, x, case, way)
    same([back[0], *back[2:]], [way[0], *way[2:]])


def test_ipndm_on_a_list_of_our_own():
    """Theirs takes sines for its trained betas; the network says v and hears an angle."""
    nodes = nodes_of("karras", VP, 10)
    told = [replace(n, time=atan2(n.sigma, n.alpha) / pi * 2) for n in nodes]

    def make() -> Any:
        peer = IPNDMScheduler(trained_betas=[n.sigma for n in nodes])
        peer.set_timesteps(10)
        return peer

    check(Case(make, "ipndm", lambda _: told, "v", unit=1.0))


@pytest.mark.parametrize("prediction", PREDICTED)
def test_dpmpp_2s_is_their_singlestep_on_an_even_list(prediction: str):
    """Even in lambda, so that two steps of theirs are the two stages of one of ours."""

    def nodes(peer: Any) -> list[Node]:
        at = of_sigmas()(peer)
        return [*at[0:-1:2], at[-1]]

    make = partial(made, DPMSolverSinglestepScheduler, 9, betas=betas_of(EVEN), solver_order=2,
                   prediction_type=PREDICTED[prediction], lower_order_final=True)  # fmt: skip
    check(Case(make, "dpmpp-2s", nodes, prediction, EVEN, unit=0.1))


def singlestep(order: int, kind: str, prediction: str) -> Case:
    make = partial(made, DPMSolverSinglestepScheduler, 12, betas=betas_of(EVEN), solver_order=order,
                   solver_type=kind, algorithm_type="dpmsolver",
                   final_sigmas_type="sigma_min", prediction_type=PREDICTED[prediction],
                   **FULL)  # fmt: skip
    return Case(
        make, f"dpm-solver-{order}", lambda peer: of_sigmas()(peer)[::order], prediction, EVEN,
        unit=0.1,
    )  # fmt: skip


@pytest.mark.parametrize("prediction", PREDICTED)
def test_dpm_solver_2_is_their_singlestep_on_an_even_list(prediction: str):
    check(singlestep(2, "midpoint", prediction))


@pytest.mark.parametrize("prediction", PREDICTED)
def test_dpm_solver_3_is_theirs_stage_by_stage(prediction: str):
    """Each of their two kinds takes one stage otherwise than the paper's algorithm 2: `midpoint`
    the second, `heun` the third."""
    for kind, differs in (("midpoint", 1), ("heun", 2)):
        case = singlestep(3, kind, prediction)
        peer = case.peer()
        table = case.table(peer)
        x = start(table.nodes[0])
        way = theirs(peer, x, case)
        back = led(table, x, case, way)
        alike = [i for i in range(12) if i % 3 != differs]
        same([back[i] for i in alike], [way[i] for i in alike])
        with pytest.raises(AssertionError, match="evaluation"):
            same(back[differs::3], way[differs::3])
