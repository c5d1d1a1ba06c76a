"""Many names, one step: what diffusers has as several schedulers is one table here."""

from __future__ import annotations

from functools import partial

import pytest
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from peers import (
    FLOW,
    PREDICTED,
    Case,
    called,
    flow,
    made,
    of_sigmas,
    of_times,
    ours,
    same,
    start,
    theirs,
    ve,
)

from diptych.diffusion.paths import VarianceExploding
from diptych.diffusion.solvers import ALIASES, table_of
from diptych.diffusion.spacings import nodes_of

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")
TRAILING = {"timestep_spacing": "trailing"}
UNIP = {"solver_order": 1, "disable_corrector": list(range(10))}
FIRST_ORDER = [
    (DDIMScheduler, {"clip_sample": False}, False),
    (EulerDiscreteScheduler, {}, True),
    (DPMSolverMultistepScheduler, {"solver_order": 1}, False),
    (UniPCMultistepScheduler, UNIP, False),
    (DEISMultistepScheduler, {"solver_order": 1}, False),
]
WITH_NOISE = [
    (DDIMScheduler, {"clip_sample": False}, False),
    (DDPMScheduler, {"clip_sample": False, "variance_type": "fixed_small"}, False),
    (EulerAncestralDiscreteScheduler, {}, True),
    (
        DPMSolverMultistepScheduler,
        {"solver_order": 1, "algorithm_type": "sde-dpmsolver++"},
        False,
    ),
]


def case(solver: str, kind: type, options: dict, prediction: str, exploding: bool, noisy: bool):
    make = partial(made, kind, 10, prediction_type=PREDICTED[prediction], **TRAILING, **options)
    said = {"eta": 1.0} if noisy and kind is DDIMScheduler else {}
    return Case(make, solver, of_times(), prediction, said=said, exploding=exploding, noisy=noisy)


CASES = [
    *(case("euler", k, o, p, e, False) for k, o, e in FIRST_ORDER for p in ("eps", "v")),
    *(case("euler-ancestral", k, o, p, e, True) for k, o, e in WITH_NOISE for p in ("eps", "v")),
]


@pytest.mark.parametrize("case", CASES, ids=called)
def test_one_table_is_all_of_them(case: Case):
    """DEIS of theirs does not go to data; it is compared up to its last step."""
    peer = case.peer()
    table = case.table(peer)
    x = start(table.nodes[0], case.exploding)
    ends = 9 if isinstance(peer, DEISMultistepScheduler) else 10
    same(ours(table, x, case)[:ends], theirs(peer, x, case)[:ends])


@pytest.mark.parametrize("kind", [EDMEulerScheduler, EDMDPMSolverMultistepScheduler])
def test_euler_of_edm_is_their_first_order_of_dpmpp(kind: type):
    options = {"solver_order": 1} if kind is EDMDPMSolverMultistepScheduler else {}
    make = partial(made, kind, 10, betas={}, **options)
    case = Case(make, "euler", of_sigmas(ve), "edm", VarianceExploding(), unit=1.0)
    peer = case.peer()
    table = case.table(peer)
    x = start(table.nodes[0])
    same(ours(table, x, case), theirs(peer, x, case))


@pytest.mark.parametrize("kind", [DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler])
def test_euler_of_a_flow_is_their_first_order_of_dpmpp(kind: type):
    """Their DPM-Solver++ says whole times, so the flow's Euler is asked at those."""
    options = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "solver_order": 1}
    if kind is FlowMatchEulerDiscreteScheduler:
        options = {}
    make = partial(made, kind, 10, betas={}, **options)
    case = Case(make, "euler", of_sigmas(flow), "velocity", FLOW)
    peer = case.peer()
    table = case.table(peer)
    x = start(table.nodes[0])
    same(ours(table, x, case), theirs(peer, x, case))


def test_our_names_for_one_step_are_one_table():
    nodes = nodes_of("karras", VarianceExploding(), 6)
    path = VarianceExploding()
    first = [table_of(name, path, nodes, "x0").rows for name in ("euler", "ddim")]
    assert (first[0] == first[1]).all()
    firsts = {"deis-1", "dpm-solver-1", "dpmpp-1", "flow-euler", "unip-1"}
    assert {alias for alias, name in ALIASES.items() if name == "euler"} == firsts
    assert {alias for alias, name in ALIASES.items() if name == "euler-ancestral"} == {
        "ddpm", "dpmpp-sde-1",
    }  # fmt: skip
