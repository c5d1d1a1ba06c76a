"""Weights against the one error that all predictions make."""

from __future__ import annotations

import json
from math import inf, pi

import pytest
import torch
from four_points import PATHS, SPREAD

from diptych.diffusion.paths import (
    FlowPath,
    VarianceExploding,
    VariancePreserving,
    scaled_linear_betas,
    vp_of_betas,
    zero_terminal,
)
from diptych.foundation.config import from_json, to_json
from diptych.foundation.errors import InvalidValue, NotFound
from diptych.objectives.places import Places, at_rhos, at_times
from diptych.objectives.weights import (
    PREDICTIONS,
    SCHEMES,
    Weight,
    check,
    per_clean,
    weights,
)

SD = vp_of_betas(scaled_linear_betas())
ZERO = zero_terminal(SD)
RHOS = torch.logspace(-3, 3, 201, dtype=torch.float64)

# The weight on |x0 error|^2 that each scheme stands for, from its paper.
ON_CLEAN = {
    "min-snr": (Weight(kind="min-snr", gamma=3.0), lambda snr: snr.clamp(max=3)),
    "p2": (Weight(kind="p2", k=0.5, gamma=1.5), lambda snr: snr * (0.5 + snr) ** -1.5),
    "edm": (Weight(kind="edm"), lambda snr: (1 / snr + SPREAD**2) / (SPREAD**2 / snr)),
}


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("scheme", ON_CLEAN)
def test_a_scheme_is_one_weight_on_the_error_of_x0(scheme: str, prediction):
    weight, on_clean = ON_CLEAN[scheme]
    at = at_rhos(PATHS[prediction], RHOS)
    counted = weights(weight, prediction, at, SPREAD) * per_clean(prediction, at, SPREAD)
    torch.testing.assert_close(counted, on_clean(RHOS**-2), rtol=1e-12, atol=0)


def test_the_table_of_min_snr_and_the_unit_weight_of_edm():
    at = at_rhos(SD, torch.tensor([0.1, 0.5, 2.0]))
    snr, weight = at.snr, Weight(kind="min-snr")
    least = snr.clamp(max=5)
    torch.testing.assert_close(weights(weight, "x0", at), least)
    torch.testing.assert_close(weights(weight, "eps", at), least / snr)
    torch.testing.assert_close(weights(weight, "v", at), least / (snr + 1))
    exploding = at_rhos(VarianceExploding(), RHOS.clamp(0.002, 80))
    ones = torch.ones_like(RHOS)
    torch.testing.assert_close(weights(Weight(kind="edm"), "edm", exploding), ones)
    torch.testing.assert_close(weights(Weight(kind="p2"), "eps", at), 1 / (1 + snr))


def _ends(prediction: str) -> Places:
    """Data alone and noise alone, where the path of the prediction has them."""
    if prediction == "edm":
        return at_rhos(VarianceExploding(), torch.tensor([0.0, 1e8]))
    return at_rhos(ZERO if prediction != "velocity" else FlowPath(), torch.tensor([0.0, inf]))


# What is infinite at an end is so by its definition: nothing can be made of it but a refusal.
INFINITE = {("edm", "x0"): 0, ("edm", "eps"): 1}


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_are_finite_at_both_ends_or_refused(scheme, prediction):
    weight = Weight(kind=scheme)
    if scheme == "cosmap" and prediction != "velocity":
        with pytest.raises(InvalidValue, match="Predict the velocity"):
            weights(weight, prediction, _ends(prediction))
        return
    found = weights(weight, prediction, _ends(prediction))
    assert not found.isnan().any() and (found >= 0).all()
    infinite = [INFINITE.get((scheme, prediction)) == end for end in (0, 1)]
    assert found.isinf().tolist() == infinite


def test_no_signal_has_a_finite_min_snr_weight():
    nothing = at_rhos(ZERO, torch.tensor([inf]))
    weight = Weight(kind="min-snr")
    for prediction, wanted in {"eps": 1.0, "x0": 0.0, "v": 0.0}.items():
        assert weights(weight, prediction, nothing).tolist() == [wanted]
    all_noise = at_times(FlowPath(), torch.tensor([1.0, 0.0]))
    assert weights(weight, "velocity", all_noise).tolist() == [0.0, 0.0]
    assert weights(weight, "x0", all_noise).tolist() == [0.0, 5.0]


def test_cosmap_has_the_mean_one_over_uniform_times():
    t = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    found = weights(Weight(kind="cosmap"), "velocity", at_times(FlowPath(), t))
    torch.testing.assert_close(found, 2 / (pi * (1 - 2 * t + 2 * t * t)))
    assert float(found.mean()) == pytest.approx(1, abs=1e-9)


REFUSED = [
    (FlowPath(), "v", Weight(), "variance preserving path"),
    (VarianceExploding(), "v", Weight(), "variance preserving path"),
    (SD, "velocity", Weight(), "a flow"),
    (SD, "edm", Weight(), "variance exploding"),
    (FlowPath(), "edm", Weight(), "variance exploding"),
    (FlowPath(), "x0", Weight(kind="edm"), "data end.*Choose min-snr"),
    (ZERO, "eps", Weight(kind="edm"), "noise end.*Choose min-snr"),
    (FlowPath(), "x0", Weight(kind="p2", gamma=0.5), "data end"),
    (SD, "v", Weight(kind="cosmap"), "cosmap"),
    (VarianceExploding(), "edm", Weight(kind="cosmap"), "cosmap"),
]


@pytest.mark.parametrize(("path", "prediction", "weight", "said"), REFUSED)
def test_what_means_nothing_is_refused(path, prediction, weight, said):
    with pytest.raises(InvalidValue, match=said):
        check(path, prediction, weight, SPREAD)


@pytest.mark.parametrize("path", [SD, ZERO, FlowPath(), VarianceExploding()])
def test_what_means_something_is_not(path):
    named = {VariancePreserving: "v", FlowPath: "velocity", VarianceExploding: "edm"}
    for prediction in ("x0", "eps", named[type(path)]):
        check(path, prediction, Weight(kind="min-snr"), SPREAD)
        check(path, prediction, Weight(kind="p2"), SPREAD)


def test_weights_are_a_config_and_refuse_what_they_do_not_read():
    weight = Weight(kind="p2", gamma=0.5)
    assert from_json(Weight, json.loads(json.dumps(to_json(weight)))) == weight
    with pytest.raises(InvalidValue, match=r"min-snr does not read k.*reads gamma"):
        Weight(kind="min-snr", k=1.0)
    with pytest.raises(InvalidValue, match="uniform does not read gamma"):
        Weight(gamma=1.0)
    with pytest.raises(InvalidValue, match="above 0"):
        Weight(kind="min-snr", gamma=0.0)
    with pytest.raises(NotFound, match="min-snr"):
        Weight(kind="minsnr")  # pyright: ignore[reportArgumentType]
