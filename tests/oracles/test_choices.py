"""Where diffusers and ours differ and neither is wrong, or nearly so: figures for the page."""

from __future__ import annotations

import pytest
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
)
from peers import VP, betas_of, made, of_sigmas, vp
from perfect import DATA, begin_at, by_ratio, missed, missed_by, near

from benchmarks.exact import solve
from benchmarks.solver_orders import PATH
from diptych.diffusion.solvers import table_of
from diptych.diffusion.spacings import nodes_of

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")


def test_the_last_steps_of_a_short_list():
    """Theirs lower the order of the last but one when there are fewer than 15."""
    options = {"solver_order": 3, "use_karras_sigmas": True}

    def there(steps: int, **more: bool) -> float:
        peer = made(DPMSolverMultistepScheduler, steps, **options, **more)
        return missed_by(peer, "eps", by_ratio, vp(float(peer.sigmas[0]), 999.0))

    def here(steps: int) -> float:
        return missed("dpmpp-3m", VP, nodes_of("karras", VP, steps), "eps")

    assert (there(5), here(5)) == (near(0.23), near(0.30))
    assert (there(10), here(10)) == (near(0.034), near(0.0119))
    assert there(10, lower_order_final=False) == pytest.approx(here(10), rel=1e-3)


def test_the_start_of_higher_orders():
    """LMS of order 4, even in lambda; theirs is read before it jumps to data."""
    peer = made(LMSDiscreteScheduler, 101, betas=betas_of(PATH))
    nodes = of_sigmas()(peer)[:-1]
    x = (begin_at(nodes[0]) / nodes[0].alpha).float()
    for node, t in zip(nodes[:-1], peer.timesteps, strict=False):
        said = DATA.says("eps", peer.scale_model_input(x, t).double(), node).float()
        x = peer.step(said, t, x, return_dict=False)[0]
    right = DATA.solution(begin_at(nodes[0]), nodes[0], nodes[-1])
    assert float((x * nodes[-1].alpha - right).abs().max()) == near(5.2e-5)
    assert missed("lms-4", PATH, nodes, "eps") == near(5.0e-5)


@pytest.mark.parametrize(
    ("steps", "there", "here", "heun"), [(50, 0.073, 0.169, 0.026), (200, 0.0175, 0.0575, 0.0021)]
)
def test_which_time_inversion_tells(steps: int, there: float, here: float, heun: float):
    """From data to noise theirs asks at the beginning of a step and tells the time of its end."""
    peer = made(DDIMInverseScheduler, steps, clip_sample=False)
    times = [float(t) for t in peer.timesteps]
    nodes = [VP.node(0.0), *map(VP.at, times)]
    first = DATA.mean + 0.3
    x = first.float()
    for node, t in zip(nodes[1:], peer.timesteps, strict=True):
        x = peer.step(DATA.says("eps", x.double(), node).float(), t, x, return_dict=False)[0]
    right = DATA.solution(first, nodes[0], nodes[-1])
    assert float((x - right).abs().max()) == near(there)
    ours = {
        name: solve(DATA, table_of(name, VP, nodes, "eps"), "eps", first)
        for name in ("euler", "heun")
    }
    assert float((ours["euler"] - right).abs().max()) == near(here)
    assert float((ours["heun"] - right).abs().max()) == near(heun)


def test_leading_leaves_noise_out_and_is_two_lists():
    for steps, first, other in ((4, 750, 800), (10, 900, 900), (50, 980, 950)):
        assert made(DDIMScheduler, steps, timestep_spacing="leading").timesteps[0] == first
        peer = made(DPMSolverMultistepScheduler, steps, timestep_spacing="leading")
        assert peer.timesteps[0] == other
        node = nodes_of("leading", VP, steps)[0]
        assert node.time == first and node.alpha > nodes_of("trailing", VP, steps)[0].alpha


def test_linspace_counts_the_first_training_step():
    """Their DDIM asks a last time at step 0, where ratio 0.029 is left; ours has spent it above."""
    assert made(DDIMScheduler, 10, timestep_spacing="linspace").timesteps[-2:].tolist() == [111, 0]
    assert [n.time for n in nodes_of("linspace", VP, 10)[-2:]] == [pytest.approx(99.9), 0.0]
    peer = made(DPMSolverMultistepScheduler, 10, timestep_spacing="linspace")
    assert peer.timesteps[-1] == 100  # rounded


def test_where_the_way_ends():
    assert PNDMScheduler(beta_schedule="scaled_linear").final_alpha_cumprod < 1
    peer = made(PNDMScheduler, 10, skip_prk_steps=True)
    assert float((1 / peer.final_alpha_cumprod - 1).sqrt()) == near(0.0292)
    assert nodes_of("leading", VP, 10, offset=1)[-1].rho == 0
    assert nodes_of("leading", VP, 10, offset=1, ends="trained")[-1].rho == near(0.0292)
