"""EDM's churn, the predictor and the corrector of score SDEs: the same as diffusers'."""

from __future__ import annotations

from itertools import pairwise
from math import hypot

import pytest
import torch
from diffusers import ScoreSdeVeScheduler
from diffusers.schedulers.deprecated.scheduling_karras_ve import KarrasVeScheduler
from peers import SEED, SHAPE, network, same, start

from diptych.diffusion.kernel import Table, begin, step
from diptych.diffusion.langevin import corrected
from diptych.diffusion.paths import Node, VarianceExploding
from diptych.diffusion.solvers import table_of
from diptych.diffusion.spacings import custom, nodes_of

VE = VarianceExploding()


def said(x: torch.Tensor, rho: float) -> torch.Tensor:
    """The network behind an input of about unit size, as exploding paths need it."""
    return network(x / hypot(1.0, rho), rho)


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


def test_edm_stochastic_is_theirs():
    """Their noise comes before a step, ours at the end of the one before: the places between are
    the same. Above 50 neither adds any, so the first noise is the start's alone."""
    steps, nodes = 10, nodes_of("karras", VE, 10)
    peer = KarrasVeScheduler(s_churn=30.0, s_noise=1.003, s_min=0.05, s_max=50.0)
    peer.set_timesteps(steps)
    x = start(nodes[0])
    table = table_of("edm-stochastic", VE, nodes, "eps", churn=30.0)

    generator, way, sample = draws(), [], x
    for s, t in pairwise(nodes):
        hat, at = peer.add_noise_to_input(sample, s.rho, generator=generator)
        out = -said(hat, at)
        sample, slope = peer.step(out, at, t.rho, hat, return_dict=False)
        if t.rho:
            out = -said(sample, t.rho)
            sample, _ = peer.step_correct(
                out, at, t.rho, hat, sample, slope, return_dict=False
            )  # fmt: skip
        way.append((hat, at))
    # Ours stands at the noised places after each step; at the end at data.
    generator, state, mine = draws(), begin(x.double()), []
    torch.randn(SHAPE, generator=generator)  # theirs draws for the first step too, times nothing
    ats = []
    for i, by in enumerate(table.coefficients(state.x)):
        out = said(state.x, table.nodes[i].rho)
        noise = torch.randn(SHAPE, generator=generator).double() if table.after[i] else None
        state = step(state, out, by, noise)
        if (after := table.after[i]) is not None:
            mine.append(state.x)
            ats.append(after.rho)
    assert ats[:-1] == pytest.approx([at for _, at in way[1:]], rel=1e-12)
    assert max(at / n.rho for at, n in zip(ats, nodes[1:-1], strict=False)) > 1.4
    same(mine, [*(hat for hat, _ in way[1:]), sample])


def test_the_predictor_of_the_exploding_sde_is_ddpm_of_the_larger_variance():
    steps = 12
    peer = ScoreSdeVeScheduler(num_train_timesteps=steps, sigma_min=0.05, sigma_max=50.0)
    peer.set_timesteps(steps)
    nodes = custom(VE, [*peer.discrete_sigmas.double().flip(0).tolist(), 0.0])
    generator, way, x = draws(), [], start(nodes[0])
    for i, t in enumerate(peer.timesteps):
        score = said(x, nodes[i].rho) / nodes[i].rho
        x, mean = peer.step_pred(score, t, x, generator=generator, return_dict=False)
        way.append(x if i < steps - 1 else mean)  # theirs leaves noise on the picture
    same(walked(table_of("ddpm-large", VE, nodes, "score"), start(nodes[0])), way)


def walked(table: Table, x: torch.Tensor) -> list[torch.Tensor]:
    generator, state, way = draws(), begin(x.double()), []
    for i, by in enumerate(table.coefficients(state.x)):
        noise = torch.randn(SHAPE, generator=generator).double() if by.noisy else None
        rho = table.nodes[i].rho
        state = step(state, said(state.x, rho) / rho, by, noise)
        way.append(state.x)
    return way


def test_the_corrector_is_theirs_for_one_picture():
    """Theirs take the norms' means over the batch; for one picture they are its own."""
    peer = ScoreSdeVeScheduler(snr=0.15)
    peer.set_timesteps(10)
    x = start(Node(3.0, 1.0, 3.0, 0.0))[:1]
    score = network(x, 0.3)
    noise = torch.randn(x.shape, generator=draws())
    there = peer.step_correct(score, x, generator=draws(), return_dict=False)[0]
    same([x, corrected(x, score, noise, 0.15)], [x, there])
