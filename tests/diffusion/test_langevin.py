"""Predictor and corrector: what Langevin dynamics must leave alone, and what it must mend."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.exact import Gaussian, solve
from diptych.diffusion import langevin
from diptych.diffusion.kernel import Table
from diptych.diffusion.noise import first_noise, step_noise
from diptych.diffusion.paths import (
    FlowPath,
    Node,
    Path,
    VarianceExploding,
    scaled_linear_betas,
    vp_of_betas,
)
from diptych.diffusion.solvers import table_of
from diptych.foundation.errors import InvalidValue
from diptych.foundation.progress import Progress

SIZE = 64
VE, FLOW = VarianceExploding(10.0, 0.01), FlowPath()
VP = vp_of_betas(scaled_linear_betas())
DATA = Gaussian(torch.linspace(-1, 1, SIZE).double(), torch.linspace(0.2, 1.5, SIZE).double())
EPS = partial(DATA.says, "eps")


def spaced(path: Path, steps: int, last: float = 0.03) -> list[Node]:
    """ln rho even from the path's start, then data."""
    ratios = np.geomspace(path.start, last, steps)
    return [*(path.node(min(float(ratio), path.start)) for ratio in ratios), path.node(0.0)]


def noise_at(node: Node, rows: int, shape: tuple[int, ...] = (SIZE,)) -> Tensor:
    return first_noise(range(rows), shape).double() * node.sigma


def away(x: Tensor) -> float:
    """Squared distance of Wasserstein between the rows and the data, by their two moments."""
    mean, spread = x.mean(0) - DATA.mean, x.std(0) - DATA.variance.sqrt()
    return float((mean.square() + spread.square()).mean())


@pytest.mark.parametrize("prediction, node", [
    ("eps", VP.node(3.0)), ("v", VP.node(0.1)), ("x0", VE.node(2.0)), ("velocity", FLOW.at(0.6)),
    ("velocity", FLOW.at(1.0)),
])  # fmt: skip
def test_the_score_is_read_out_of_every_prediction(prediction: str, node: Node):
    x = DATA.mean * node.alpha + first_noise(range(3), (SIZE,)).double()
    read = langevin.score(prediction, x, DATA.says(prediction, x, node), node)
    torch.testing.assert_close(read, DATA.score(x, node))


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_the_corrector_leads_to_the_level_and_keeps_it(spread: float):
    """With one variance V, x -> (1 - e / V) x + sqrt(2 e) noise has the variance
    V / (1 - e / 2 V), and e = 2 r^2 V as long as x has variance V."""
    node, ratio, rows = VE.node(1.5), 0.16, 16
    data = Gaussian(torch.zeros(()).double(), torch.tensor(0.75).double())
    variance = 0.75 + node.sigma**2
    x = spread * variance**0.5 * first_noise(range(rows), (1024,)).double()
    for k in range(80):
        noise = step_noise(range(rows), k, (1024,)).double()
        x = langevin.corrected(x, data.score(x, node), noise, ratio)
    # 16,384 numbers: the standard error of their variance is 1.1 %, that of the mean 0.8 %.
    assert float(x.var()) / variance == pytest.approx(1 / (1 - ratio**2), abs=0.04)
    assert abs(float(x.mean())) < 0.03 * variance**0.5


def test_a_row_without_score_stays():
    x = torch.ones(2, 3, dtype=torch.float64)
    score = torch.stack([torch.zeros(3), torch.ones(3)]).double()
    moved = langevin.corrected(x, score, x, 0.1)
    assert torch.equal(moved[0], x[0]) and not torch.equal(moved[1], x[1])


def ancestral(path: Path, nodes: list[Node]) -> Table:
    """A predictor with fresh noise."""
    return table_of("euler-ancestral", path, nodes, "eps")


@pytest.mark.parametrize("path, steps", [(VE, 10), (VE, 20), (VP, 10)])
def test_corrected_rows_end_nearer_to_the_data(path: Path, steps: int):
    """Of 256 rows; three ranges of seeds gave ratios of 0.24 to 0.31 for one round, 0.12 to 0.3
    for two."""
    nodes = spaced(path, steps)
    table, x = ancestral(path, nodes), noise_at(nodes[0], 256)
    none, one, two = (
        away(langevin.sample(EPS, "eps", table, x, range(256), rounds=rounds))
        for rounds in (0, 1, 2)
    )
    assert one < 0.5 * none and two < 0.5 * none


@pytest.mark.parametrize("source", ["torch", "philox"])
@pytest.mark.parametrize("shape", [(SIZE,), (3, 16, 15)])
def test_a_row_does_not_know_its_neighbours(shape: tuple[int, ...], source: str):
    nodes, seeds = spaced(VE, 4), [3, 2**40, 5]
    x = noise_at(nodes[0], 3, shape)

    def ask(x: Tensor, node: Node) -> Tensor:
        return node.sigma * x / (1 + node.sigma**2)  # the data is standard normal

    table = ancestral(VE, nodes)
    by = partial(langevin.sample, ask, "eps", table, rounds=2, source=source)
    together = by(x, seeds)
    for i in range(3):
        assert torch.equal(by(x[i : i + 1], seeds[i : i + 1])[0], together[i])
    assert not torch.equal(by(x, [3, 4, 5])[1], together[1])
    other = {"torch": "philox", "philox": "torch"}[source]
    assert not torch.equal(by(x, seeds, source=other), together)


def test_without_rounds_it_is_the_table_alone():
    nodes = spaced(VP, 8)
    table, x, seeds = ancestral(VP, nodes), noise_at(nodes[0], 2), [8, 9]
    noises = [step_noise(seeds, i, (SIZE,)).double() for i in range(len(table))]
    alone = langevin.sample(EPS, "eps", table, x, seeds, rounds=0)
    assert torch.equal(alone, solve(DATA, table, "eps", x, noises))


def test_stages_are_left_alone_and_the_end_too():
    """Heun's inner stage is no place to correct at, data has no score."""
    nodes, asked, told = spaced(VE, 4), list[float](), list[Progress]()

    def ask(x: Tensor, node: Node) -> Tensor:
        asked.append(node.rho)
        return EPS(x, node)

    x, fine = noise_at(nodes[0], 1), table_of("heun", VE, spaced(VE, 80, last=0.005), "eps")
    plain = langevin.sample(EPS, "eps", fine, x, [1], rounds=0)
    torch.testing.assert_close(plain, DATA.solution(x, nodes[0], nodes[-1]), atol=0.02, rtol=0)
    table = table_of("heun", VE, nodes, "eps")
    langevin.sample(ask, "eps", table, x, [1], rounds=2, report=told.append)
    a, b, c, d = (node.rho for node in nodes[:-1])
    assert asked == pytest.approx([a, b, b, b, b, c, c, c, c, d, d, d, d])
    assert told[-1] == Progress(len(table), len(table))


def test_what_does_not_go_together_is_refused():
    nodes = spaced(VE, 4)
    x = noise_at(nodes[0], 1)
    for name in ("dpmpp-2m", "dpmpp-2m-sde", "unipc-1", "exp-ab3", "lms", "ipndm", "deis"):
        with pytest.raises(InvalidValue, match="multistep"):
            langevin.sample(EPS, "eps", table_of(name, VE, nodes, "eps"), x, [1])
    for name in ("euler", "euler-ancestral", "heun", "rk4", "dpmpp-2s"):
        ended = langevin.sample(EPS, "eps", table_of(name, VE, nodes, "eps"), x, [1])
        assert torch.isfinite(ended).all()
