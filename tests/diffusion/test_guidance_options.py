"""What guidance does beside sums: rescaling, thresholds, APG, CFG-Zero*, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
import torch
from answers import FLOW, VP, C, Said, U, one
from torch import Tensor

from diptych.diffusion.guidance import (
    Guidance,
    Term,
    autoguidance,
    classifier_free,
    composed,
    guided,
    perturbed,
    toward,
)
from diptych.diffusion.paths import Node
from diptych.diffusion.predictions import to_x0
from diptych.foundation.errors import InvalidValue

OFF = (1.0, inf, 0.0)  # an APG that changes nothing


def test_rescaling_keeps_the_spread_of_the_conditional():
    network = Said(conditional=C, unconditional=U)
    g = U + 7.5 * (C - U)
    assert one(replace(classifier_free(7.5), rescale=1.0), network).std() == pytest.approx(C.std())
    out = one(replace(classifier_free(7.5), rescale=0.7), network)
    torch.testing.assert_close(out, g * (0.7 * C.std() / g.std() + 0.3))
    off = one(replace(classifier_free(7.5), rescale=0.0), network)
    assert torch.equal(off, one(classifier_free(7.5), network))
    flat = Said(conditional=torch.ones(2, 3), unconditional=torch.zeros(2, 3))
    assert torch.equal(
        one(replace(classifier_free(2.0), rescale=1.0), flat), torch.full((2, 3), 2.0)
    )
    assert torch.equal(one(replace(classifier_free(1.0), rescale=0.7), network), C)


def test_lengths_are_those_of_the_conditional():
    network, g = Said(conditional=C, unconditional=U), U + 7.5 * (C - U)
    out = one(replace(classifier_free(7.5), matched=True), network)
    torch.testing.assert_close(out.norm(dim=-1), C.norm(dim=-1))
    assert torch.nn.functional.cosine_similarity(out, g, dim=-1).min() == pytest.approx(1.0)
    same = Said(conditional=0 * C, unconditional=0 * U)
    assert torch.equal(one(replace(classifier_free(2.0), matched=True), same), 0 * C)
    assert torch.equal(one(replace(classifier_free(1.0), matched=True), network), C)


def test_the_first_channels_alone_are_guided():
    network = Said(conditional=C, unconditional=U)
    g = one(classifier_free(3.0), network)
    out = one(replace(classifier_free(3.0), channels=1), network)
    assert torch.equal(out[:1], g[:1]) and torch.equal(out[1:], C[1:])
    # Without a weight of its own the conditional is still what the others say.
    out = one(replace(classifier_free(0.0), channels=1), network)
    torch.testing.assert_close(out[:1], U[:1])
    assert torch.equal(out[1:], C[1:])
    for options in ({"channels": 1}, {"matched": True}):
        with pytest.raises(InvalidValue, match="upon the conditional"):
            Guidance(**options)


def test_thresholding_leaves_small_values_alone_and_divides_large_ones_by_one_number():
    row = Guidance(threshold=0.9)
    large, most = 3 * C, torch.quantile((3 * C).abs().flatten(), 0.9)
    inside = large.abs() <= most
    assert most > 1 and 0 < (~inside).sum() <= 3
    for prediction, node in (("x0", VP), ("eps", VP), ("v", VP), ("velocity", FLOW)):
        p, q = to_x0(prediction, node)
        small = C.clamp(-0.99, 0.99)
        out = one(row, Said(conditional=(small - p * 0.5) / q), node, prediction)
        torch.testing.assert_close(p * 0.5 + q * out, small)
        out = one(row, Said(conditional=(large - p * 0.5) / q), node, prediction)
        after = p * 0.5 + q * out
        assert after.abs().max() == pytest.approx(1.0)
        torch.testing.assert_close(after[inside] * most, large[inside])


def test_thresholding_what_lies_inside_changes_no_bit():
    small = C.clamp(-0.99, 0.99)
    out = one(Guidance(threshold=1.0), Said(conditional=small), VP, "x0")
    assert torch.equal(out, small)


@pytest.mark.parametrize("prediction", ["eps", "v", "x0", "velocity"])
def test_apg_that_changes_nothing_is_classifier_free_guidance(prediction: str):
    node = FLOW if prediction == "velocity" else VP
    network = Said(conditional=C, unconditional=U)
    plain, apg = classifier_free(7.5), replace(classifier_free(7.5), projection=OFF)
    out = one(apg, network, node, prediction)
    torch.testing.assert_close(out, one(plain, network, node, prediction), rtol=1e-12, atol=1e-12)


def test_apg_turns_shortens_and_remembers_the_difference_in_x0():
    network = Said(conditional=C, unconditional=U)
    p, q = to_x0("velocity", FLOW)
    c0, d = p * 0.5 + q * C, q * (C - U)
    x = torch.full_like(C, 0.5)[None]

    def moved(projection: tuple[float, float, float], momentum: Tensor | None = None):
        row = replace(classifier_free(3.0), projection=projection)
        out, kept = guided(network, x, [row], [FLOW], "velocity", momentum=momentum)
        assert kept is not None
        return q * (out[0] - C) / (3 - 1), kept

    across, _ = moved((0.0, inf, 0.0))
    assert float((across * c0).sum()) == pytest.approx(0, abs=1e-12)
    half, _ = moved((0.5, inf, 0.0))
    torch.testing.assert_close(half, (across + d) / 2)
    assert float(moved((1.0, 0.25, 0.0))[0].norm()) == pytest.approx(0.25)
    first, kept = moved((1.0, inf, -0.5))
    torch.testing.assert_close(first, d)
    second, again = moved((1.0, inf, -0.5), kept)
    torch.testing.assert_close(second, d - 0.5 * d)
    torch.testing.assert_close(again[0], second)
    torch.testing.assert_close(kept[0], d)  # what was passed in is not written over
    # Alike passes: nothing to project, and no division by their difference.
    still = Said(conditional=C, unconditional=C)
    row = replace(classifier_free(3.0), projection=(0.0, 2.0, 0.0))
    assert torch.equal(one(row, still), C)


def test_cfg_zero_star_removes_the_best_multiple_and_is_silent_first():
    network = Said(conditional=C, unconditional=U)
    row = replace(classifier_free(4.0), zero_star=2)
    for step in (0, 1):
        assert torch.equal(one(row, network, step=step), torch.zeros_like(C))
    assert network.asked == []
    s = (C * U).sum() / (U * U).sum()
    torch.testing.assert_close(one(row, network, step=2), s * U + 4 * (C - s * U))
    assert float(((C - s * U) * U).sum()) == pytest.approx(0, abs=1e-12)
    at_one = replace(classifier_free(1.0), zero_star=0)
    assert torch.equal(one(at_one, network), C)
    silent = Said(conditional=torch.zeros(2, 3), unconditional=torch.zeros(2, 3))
    for step in (0, 5):
        out = one(replace(row, rescale=0.7), silent, step=step)
        assert torch.equal(out, torch.zeros(2, 3))


def test_options_read_the_conditional_even_where_its_weight_is_nought():
    network, s = Said(conditional=C, unconditional=U), (C * U).sum() / (U * U).sum()
    none = classifier_free(0.0)
    torch.testing.assert_close(one(replace(none, rescale=1.0), network), U * C.std() / U.std())
    torch.testing.assert_close(one(replace(none, zero_star=0), network), s * U)
    p, q = to_x0("velocity", FLOW)
    c0, d = p * 0.5 + q * C, q * (C - U)
    across = d - (d * c0).sum() / (c0 * c0).sum() * c0
    out = one(replace(none, projection=(0.0, inf, 0.0)), network)
    torch.testing.assert_close(p * 0.5 + q * out, c0 - across)


def test_what_cannot_be_is_refused():
    free = classifier_free(3.0)
    for wrong in (
        lambda: Guidance(projection=OFF),
        lambda: replace(autoguidance(3.0), zero_star=1),
        lambda: replace(free, projection=OFF, zero_star=1),
        lambda: Guidance(rescale=0.5),
        lambda: replace(composed([1.0]), rescale=0.5),
        lambda: replace(free, rescale=1.5),
        lambda: replace(free, threshold=1.5),
        lambda: replace(free, projection=(0.0, 0.0, 0.0)),
        lambda: replace(free, projection=(0.0, 1.0, 1.0)),
        lambda: replace(free, zero_star=-1),
        lambda: Guidance(told=inf),
        lambda: classifier_free(float("nan")),
        lambda: classifier_free(2.0, (0.5, 0.4)),
        lambda: Term(-1.0, "a", "b", fade=0.1),
        lambda: free + composed([2.0]),
        lambda: perturbed(1.0) + replace(free, rescale=0.5),
    ):
        with pytest.raises(InvalidValue):
            wrong()
    star = replace(free, zero_star=1)
    with pytest.raises(InvalidValue, match=r"velocity.*eps"):
        one(star, Said(conditional=C, unconditional=U), VP, "eps")
    with pytest.raises(InvalidValue, match="counted steps"):
        guided(Said(), C[None], [star], [FLOW], "velocity")
    noise = Node(inf, 0.0, 1.0, 1000.0)
    with pytest.raises(InvalidValue, match="noise alone"):
        one(Guidance(threshold=0.9), Said(conditional=C), noise, "eps")
    with pytest.raises(InvalidValue, match="Noise alone"):
        toward(C, U, 1.0, noise, "velocity")
