"""What diffusers 0.42 gets wrong, shown beside ours on the same exact data.

Each test first shows the defect there, then that ours has it not. The figures are those of
docs/disagreements.md.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.guiders.classifier_free_zero_star_guidance import ClassifierFreeZeroStarGuidance
from peers import FLOW, SD, VP, betas_of, made, vp
from perfect import (
    DATA,
    begin_at,
    by_ratio,
    by_sigma,
    end_of,
    missed,
    missed_by,
    near,
)

from benchmarks.exact import Gaussian, Point, solve
from benchmarks.solver_orders import PATH, variance_error
from diptych.diffusion.guidance import Guidance, classifier_free, guided
from diptych.diffusion.kernel import N, begin, step
from diptych.diffusion.paths import Node, VarianceExploding, zero_terminal
from diptych.diffusion.solvers import table_of
from diptych.diffusion.spacings import nodes_of
from diptych.foundation.errors import InvalidValue

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered in log:RuntimeWarning"),
]
NOISE = VP.at(999)
POINT = Point(DATA.mean)
TO_FLOW = {"betas": {}, "use_flow_sigmas": True, "prediction_type": "flow_prediction"}


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_04_bh1_to_data(steps: int):
    for spacing in ("linspace", "leading", "trailing"):
        peer = made(UniPCMultistepScheduler, steps, solver_type="bh1", timestep_spacing=spacing)
        assert end_of(peer, "eps", by_ratio, NOISE, POINT).isnan().all()
        table = table_of("unipc-bh1", VP, nodes_of(spacing, VP, steps), "eps")
        end = solve(POINT, table, "eps", begin_at(table.nodes[0]))
        torch.testing.assert_close(end, DATA.mean, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("steps", "there", "here"), [(10, 0.23, 0.027), (80, 0.0275, 0.00052)])
def test_06_deis_never_reaches_data(steps: int, there: float, here: float):
    peer = made(DEISMultistepScheduler, steps, **TO_FLOW)
    assert missed_by(peer, "velocity", by_sigma, FLOW.at(float(peer.sigmas[0]))) == near(there)
    assert made(DEISMultistepScheduler, steps).sigmas[-1] == near(0.0292)
    nodes = nodes_of("trailing", FLOW, steps)
    assert missed("deis", FLOW, nodes, "velocity") == near(here)


@pytest.mark.parametrize(("steps", "there"), [(160, 2.6e-3), (320, 2.8e-2)])
def test_11_deis_3_in_float32(steps: int, there: float):
    """A sum of large terms that cancel: theirs grows. Ours is walked in float32 too."""
    peer = made(DEISMultistepScheduler, steps, solver_order=3, use_karras_sigmas=True)
    first, last = (vp(float(peer.sigmas[i]), 0.0) for i in (0, -1))
    assert missed_by(peer, "eps", by_ratio, first, last) == pytest.approx(there, rel=0.3)
    nodes = nodes_of("karras", VP, steps)[:-1]
    table, x = table_of("deis-3", VP, nodes, "eps"), begin_at(nodes[0]).float()
    right, state = DATA.solution(x.double(), nodes[0], nodes[-1]), begin(x)
    for node, by in zip(table.nodes, table.coefficients(x), strict=True):
        state = step(state, DATA.says("eps", state.x.double(), node).float(), by)
    assert float((state.x - right).abs().max()) < 1e-5


# Even in lambda from -4 to 4, so that orders can be read off.
OPEN = {
    "betas": betas_of(PATH),
    "final_sigmas_type": "sigma_min",
    "lower_order_final": False,
}


def test_12_the_third_order_that_is_none():
    def there(steps: int) -> float:
        peer = made(DPMSolverMultistepScheduler, steps, solver_order=3, **OPEN)
        first, last = (vp(float(peer.sigmas[i]), 0.0) for i in (0, -1))
        return missed_by(peer, "eps", by_ratio, first, last)

    def here(name: str, steps: int) -> float:
        return missed(name, PATH, nodes_of("log-snr", PATH, steps), "eps")

    assert there(125) / there(250) == pytest.approx(2**2, rel=0.15)
    assert there(250) == near(1.7e-5)
    assert here("dpmpp-3m", 250) == near(1.7e-5)  # kept by its name, as it was published
    assert here("exp-ab3", 125) / here("exp-ab3", 250) > 2**2.9
    assert here("exp-ab3", 250) < 1e-7


def test_12_the_third_order_with_noise_is_the_first():
    """The variance after all steps, from each draw's own part in it: nothing is left to chance."""

    def there(order: int, steps: int) -> float:
        options = {"solver_order": order, "algorithm_type": "sde-dpmsolver++"}
        peer = made(DPMSolverMultistepScheduler, steps, **options, **OPEN)
        first, last = (vp(float(peer.sigmas[i]), 0.0) for i in (0, -1))
        data = Gaussian(torch.zeros_like(DATA.mean), DATA.variance)
        x = torch.zeros(steps + 1, 4, 1, 1)
        x[0] = variance(first).sqrt().float()
        for i, t in enumerate(peer.timesteps):
            node, noise = vp(float(peer.sigmas[i]), 0.0), torch.zeros_like(x)
            noise[i + 1] = 1.0
            out = data.says("eps", x.double(), node).float()
            x = peer.step(out, t, x, variance_noise=noise, return_dict=False)[0]
        return float((x.double().square().sum(0) / variance(last) - 1).abs().max())

    assert there(3, 100) / there(3, 200) == pytest.approx(2, rel=0.1)
    assert (there(3, 200), there(2, 200)) == (near(1.4e-2), near(5.3e-4))
    ours = [variance_error("exp-ab3-sde", steps) for steps in (100, 200)]
    assert ours[0] / ours[1] == pytest.approx(4, rel=0.1) and ours[1] == near(1.8e-4)


def variance(node: Node) -> torch.Tensor:
    return (node.alpha**2 * DATA.variance + node.sigma**2)[0]


def test_13_the_dynamic_threshold_is_a_fixed_one():
    x0 = 3 * torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    options = {"prediction_type": "sample", "timestep_spacing": "trailing"}
    peer = made(DDIMScheduler, 10, thresholding=True, **options)
    kept = peer.step(x0, 499, x0).pred_original_sample
    assert torch.equal(kept, x0.clamp(-1, 1))
    ours = guided(lambda x, *_: x, x0, [Guidance(threshold=0.995)], [VP.at(499)], "x0")[0]
    most = torch.quantile(x0.abs().flatten(), 0.995)
    assert most > 5
    torch.testing.assert_close(ours, x0.clamp(-most, most) / most)


@pytest.mark.parametrize("steps", [4, 10])
def test_14_noise_alone_and_a_network_that_says_noise(steps: int):
    zero = zero_terminal(VP)
    options = {"timestep_spacing": "trailing", "clip_sample": False}
    peer = made(DDIMScheduler, steps, betas={**SD, "rescale_betas_zero_snr": True}, **options)
    x = begin_at(NOISE).float()
    for t in peer.timesteps:  # whatever the network says
        x = peer.step(torch.tanh(x), t, x, return_dict=False)[0]
    assert not x.isfinite().any()
    nodes = nodes_of("trailing", zero, steps)
    with pytest.raises(InvalidValue, match="noise alone"):
        table_of("euler", zero, nodes, "eps")
    end = solve(POINT, table_of("euler", zero, nodes, "v"), "v", begin_at(nodes[0]))
    torch.testing.assert_close(end, DATA.mean, rtol=0, atol=1e-9)


def test_16_silence_that_is_rescaled():
    """CFG-Zero* says nothing in its first step; nothing has no spread to be rescaled to."""
    said, other = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    peer = ClassifierFreeZeroStarGuidance(guidance_rescale=0.7)
    peer.set_state(step=0, num_inference_steps=10, timestep=torch.tensor(999))
    assert peer.forward(said, other).pred.isnan().all()
    row = replace(classifier_free(7.5), zero_star=1, rescale=0.7)
    answers = torch.cat([said, other])
    out = guided(lambda *_: answers, said, [row] * 2, [FLOW.at(1.0)] * 2, "velocity", [0, 0])[0]
    assert torch.equal(out, torch.zeros_like(said))


def test_21_churn_asks_before_the_noise():
    """For a point, what is left after a step is noise of the step's end (EDM, algorithm 2, which
    asks after it has added noise). Their Euler takes what was said before for what is after."""
    steps, draws = 20, torch.Generator().manual_seed(0)
    peer = made(EulerDiscreteScheduler, steps, use_karras_sigmas=True)
    x = torch.randn(10_000, generator=draws) * float(peer.sigmas[0])
    wider = []
    for s, end, t in zip(peer.sigmas, peer.sigmas[1:-1], peer.timesteps, strict=False):
        peer.scale_model_input(x, t)
        x = peer.step(x / s, t, x, s_churn=40.0, generator=draws, return_dict=False)[0]
        wider.append(float(x.std() / end))
    assert wider[0] == near(1.34) and min(wider) > 1.3

    path = VarianceExploding()
    nodes = nodes_of("karras", path, steps)
    table = table_of("edm-stochastic", path, nodes, "eps", low=0.0, high=80.0, inflate=1.0)
    state = begin(torch.randn(10_000, 1, generator=draws).double() * 80.0)
    for i, by in enumerate(table.coefficients(state.x)):
        noise = torch.randn(10_000, 1, generator=draws).double()
        state = step(state, state.x / table.nodes[i].rho, by, noise)
        if (end := table.after[i]) and end.rho:
            assert float(state.x.std() / end.rho) == pytest.approx(1, abs=0.04)


def test_22_the_larger_variance_stays_on_the_picture():
    options = {"timestep_spacing": "trailing", "clip_sample": False}
    peer = made(DDPMScheduler, 10, variance_type="fixed_large", **options)
    generator, x = torch.Generator().manual_seed(0), begin_at(NOISE).float().repeat(4000, 1, 1, 1)
    for t in peer.timesteps:
        out = POINT.says("eps", x.double(), VP.at(float(t))).float()
        x = peer.step(out, t, x, generator=generator, return_dict=False)[0]
    assert float(x.std(0).mean()) == near(0.32)  # sqrt(1 - alpha^2) of its last step, 99
    table = table_of("ddpm-large", VP, nodes_of("trailing", VP, 10), "eps")
    assert table.rows[-1, N] == 0
    noises = [torch.ones_like(DATA.mean)] * 10
    end = solve(POINT, table, "eps", begin_at(NOISE), noises)
    torch.testing.assert_close(end, DATA.mean, rtol=0, atol=1e-9)
