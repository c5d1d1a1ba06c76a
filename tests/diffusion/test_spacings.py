"""Lists of nodes: from the first to the last as they say, for every number of steps."""

from __future__ import annotations

import itertools
from math import exp, inf, isinf, log

import pytest

from diptych.diffusion.paths import (
    ContinuousVP,
    FlowPath,
    Path,
    VarianceExploding,
    scaled_linear_betas,
    vp_of_betas,
    zero_terminal,
)
from diptych.diffusion.spacings import (
    MOST_STEPS,
    SPACINGS,
    custom,
    nodes_of,
    shift_for_tokens,
    shift_for_tokens_and_steps,
)
from diptych.foundation.errors import InvalidValue, NotFound

FLOW, VP, VE, SDE = (
    FlowPath(),
    vp_of_betas(scaled_linear_betas()),
    VarianceExploding(),
    ContinuousVP(),
)
ZERO = zero_terminal(VP)
# Those that the library of reference gets wrong, and some of every kind.
SOME = (*range(1, 66), 103, 121, 122, 201, 206, 240, 300, 320, 333, 499, 500, 501, 666, 999, 1000)


def own_time(path: Path, time: float) -> float:
    return time / getattr(path, "time_scale", 1.0)


def check(spacing: str, path: Path, steps: int, **options: object) -> None:
    nodes = nodes_of(spacing, path, steps, **options)
    assert len(nodes) == steps + 1
    assert all(a.rho > b.rho for a, b in itertools.pairwise(nodes))
    assert nodes[-1].rho == (0 if spacing != "log-snr" else path.end)
    if spacing not in ("leading",):
        assert nodes[0].rho == pytest.approx(path.start, rel=1e-12)
    if path is VE:
        return
    for node in nodes[:-1]:
        # What the network is told is the place where x is: the same number both ways.
        there = path.at(own_time(path, node.time))
        assert isinf(there.rho) or there.rho == pytest.approx(node.rho, rel=1e-9)


CASES = [
    *((spacing, VP) for spacing in SPACINGS),
    *(("trailing", path) for path in (FLOW, SDE, ZERO)),
    *(("karras", path) for path in (VE, SDE)),
    *(("exponential", path) for path in (VE, SDE)),
    *(("beta", path) for path in (FLOW, SDE)),
    ("linspace", ZERO),
]


@pytest.mark.parametrize(("spacing", "path"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_lists_of_every_kind_of_length(spacing: str, path: Path):
    for steps in SOME:
        check(spacing, path, steps)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("spacing", "path"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_lists_of_every_length(spacing: str, path: Path):
    for steps in range(1, MOST_STEPS + 1):
        check(spacing, path, steps)


def test_the_shift_moves_a_flow_towards_noise():
    even, moved = (nodes_of("trailing", FLOW, 10, shift=s) for s in (1.0, 3.0))
    assert [node.sigma for node in even] == pytest.approx([1 - i / 10 for i in range(11)])
    for a, b in itertools.pairwise(range(11)):
        assert moved[a].sigma >= even[a].sigma and moved[a].sigma > moved[b].sigma
    # The static and the exponential form are one: e^mu / (e^mu + 1 / t - 1).
    s = shift_for_tokens(4096)
    assert s == pytest.approx(exp(1.15)) and shift_for_tokens(256) == pytest.approx(exp(0.5))
    for node, t in zip(nodes_of("trailing", FLOW, 10, shift=s)[:-1], even[:-1], strict=True):
        assert node.sigma == pytest.approx(s / (s + 1 / t.sigma - 1))
    assert log(shift_for_tokens_and_steps(4301, 10)) == pytest.approx(1.6927e-4 * 4301 + 0.456667)
    few = log(shift_for_tokens_and_steps(1024, 10))
    assert few == pytest.approx(8.738095e-5 * 1024 + 1.898333)
    assert log(shift_for_tokens_and_steps(1024, 200)) == pytest.approx(1.6927e-4 * 1024 + 0.456667)


def test_ends_at_the_first_trained_step():
    for spacing, options in (("leading", {"offset": 1}), ("trailing", {}), ("karras", {})):
        if spacing == "karras":
            with pytest.raises(InvalidValue, match="do not all go down"):
                nodes_of(spacing, VP, 5, ends="trained")
            continue
        nodes = nodes_of(spacing, VP, 5, ends="trained", **options)
        assert nodes[-1].rho == VP.end and nodes[-1].time == 0
    times = [node.time for node in nodes_of("leading", VP, 4, offset=1)[:-1]]
    assert times == [751, 501, 251, 1]


def test_beta_is_dense_at_both_ends_and_even_for_one_and_one():
    for node, same in zip(nodes_of("beta", FLOW, 9, a=1.0, b=1.0), nodes_of("trailing", FLOW, 9),
                          strict=True):  # fmt: skip
        assert node.sigma == pytest.approx(same.sigma)
    gaps = [a.sigma - b.sigma for a, b in itertools.pairwise(nodes_of("beta", FLOW, 20))]
    assert min(gaps) == min(gaps[0], gaps[-1]) and max(gaps) == max(gaps[8:12])


@pytest.mark.parametrize(
    ("spacing", "path", "options", "word"),
    [
        ("leading", FLOW, {}, "training steps"),
        ("linspace", VE, {}, "training steps"),
        ("trailing", VE, {}, "variance exploding"),
        ("beta", VE, {}, "variance exploding"),
        ("karras", FLOW, {}, "first="),
        ("exponential", FLOW, {"first": 10.0}, "first="),
        ("log-snr", ZERO, {}, "first="),
        ("karras", VP, {"shift": 3.0}, "no option 'shift'"),
        ("trailing", VP, {"shift": 3.0}, "flow"),
        ("trailing", FLOW, {"shift": 0.0}, "shift of 0"),
        ("trailing", FLOW, {"shift": inf}, "shift of inf"),
        ("karras", VP, {"power": 0.0}, "power of 0"),
        ("karras", VP, {"first": 0.1, "last": 0.2}, "do not fall"),
        ("karras", VP, {"first": 100.0}, "outside the path"),
        ("leading", VP, {"offset": -1}, "offset of -1"),
        ("leading", VP, {"ends": "trained"}, "do not all go down"),
        ("trailing", VP, {"ends": "nowhere"}, "ends='nowhere'"),
        ("beta", VP, {"a": 0.0}, "Beta"),
    ],
)
def test_what_means_nothing_is_an_error(spacing: str, path: Path, options: dict, word: str):
    with pytest.raises(InvalidValue, match=word):
        nodes_of(spacing, path, 10, **options)


@pytest.mark.parametrize("steps", [0, -3, 1001])
def test_numbers_of_steps_that_are_not_offered(steps: int):
    with pytest.raises(InvalidValue, match=str(steps)):
        nodes_of("trailing", FLOW, steps)
    with pytest.raises(InvalidValue, match="more than the 50"):
        nodes_of("trailing", vp_of_betas(scaled_linear_betas(steps=50)), 51)
    with pytest.raises(NotFound, match="karras"):
        nodes_of("karas", VP, 5)


def test_ratios_of_ones_own():
    assert [n.rho for n in custom(VP, [5.0, 1.0, 0.0])] == [5.0, 1.0, 0.0]
    assert [n.rho for n in custom(VP, [0.0, 1.0, 5.0])] == [0.0, 1.0, 5.0]
    for wrong in ([1.0], [], [1.0, 1.0], [5.0, 1.0, 2.0]):
        with pytest.raises(InvalidValue):
            custom(VP, wrong)
