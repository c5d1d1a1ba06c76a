"""Presets: whole tables or a clear word, and a source for every value."""

from __future__ import annotations

import itertools
import json
from dataclasses import MISSING, fields
from math import exp, inf
from pathlib import Path

import numpy as np
import pytest
import torch

import diptych
from benchmarks.presets_page import PAGE, page
from diptych.checkpoints.families.scheduler import preset_of
from diptych.checkpoints.presets import PRESETS, for_family
from diptych.checkpoints.presets.preset import Preset
from diptych.diffusion.kernel import Table, begin, step
from diptych.diffusion.predictions import to_x0
from diptych.foundation.errors import InvalidValue, NotFound, Unreadable
from diptych.pipelines.sampling import Sampling

TOKENS = 4096
MEAN = torch.tensor([[0.7, -1.2, 0.1]], dtype=torch.float64)
START = torch.tensor([[0.3, -0.4, 1.1]], dtype=torch.float64)
EXPECTED = {
    *("sd1", "sd2-base", "sd2-v", "sdxl", "sdxl-refiner", "sd-turbo", "sdxl-turbo"),
    *("sdxl-lightning", "sdxl-lightning-1", "lcm", "pixart-alpha", "pixart-sigma", "dit", "edm"),
    *("ddpm", "adm", "sd3", "sd3.5-medium", "sd3.5-large", "sd3.5-large-turbo", "flux-dev"),
    *("flux-schnell", "flux-fill", "flux-control", "flux2", "lumina-next", "lumina2", "sana"),
    "diptych-flow",
}


def end_of(preset: Preset, table: Table) -> torch.Tensor:
    """Where a network that knows that all data is MEAN is carried to."""
    first = table.nodes[0]
    state = begin(first.alpha * MEAN + first.sigma * START)
    draw = torch.Generator().manual_seed(0)
    for i, (node, by) in enumerate(zip(table.nodes, table.coefficients(MEAN), strict=True)):
        p, q = to_x0(preset.prediction, node)
        noise = torch.randn(MEAN.shape, generator=draw, dtype=MEAN.dtype)
        state = step(state, preset.sign * (MEAN - p * state.x) / q, by, noise)
        assert not table.noisy[i] or by.noisy
    return state.x


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("steps", [None, 1, 2, 7, "fewest", "most"])
def test_a_table_is_whole_or_refused(name: str, steps: int | str | None):
    preset = PRESETS[name]
    steps = {"fewest": preset.offered[0], "most": min(preset.offered[-1], 60)}.get(steps, steps)
    if steps is not None and steps not in preset.offered:
        with pytest.raises(InvalidValue, match="not offered") as refusal:
            preset.table(steps, tokens=TOKENS)
        assert preset.limit in str(refusal.value) and refusal.value.do
        return
    nodes = preset.nodes(steps, tokens=TOKENS)
    assert len(nodes) == (steps or preset.steps) + 1
    assert all(a.rho > b.rho for a, b in itertools.pairwise(nodes))
    table = preset.table(steps, tokens=TOKENS)
    assert np.isfinite(table.rows).all() and np.isfinite(table.times).all()
    last = table.after[-1]
    assert last is not None and last.rho == nodes[-1].rho
    trained = preset.spacing_options.get("ends") == "trained"
    assert last.rho == (preset.path.end if trained else 0.0)
    left = (end_of(preset, table) - last.alpha * MEAN).abs().max()
    # LCM's boundary lets a little of its noisy input through.
    assert left <= 6 * last.sigma + (1e-4 if preset.solver == "lcm" else 1e-6)


def test_the_longest_lists_that_are_offered():
    for preset in PRESETS.values():
        most = preset.offered[-1]
        assert len(preset.nodes(most, tokens=TOKENS)) == most + 1


def test_every_field_that_is_set_has_a_source():
    for name, preset in PRESETS.items():
        wanted = set()
        for one in fields(Preset):
            free = one.default if one.default_factory is MISSING else one.default_factory()
            if free is MISSING or getattr(preset, one.name) != free:
                wanted.add(one.name)
        assert set(preset.sources) == wanted - {"note", "limit", "sources"}, name
        assert all(len(source) > 10 for source in preset.sources.values())
        assert bool(preset.limit) == (len(preset.offered) < 1000), name
        assert preset.steps in preset.offered


def test_the_families_are_there_and_no_other_is():
    assert set(PRESETS) == EXPECTED
    assert for_family("flux-dev") is PRESETS["flux-dev"]
    with pytest.raises(NotFound, match="Did you mean 'flux-dev'"):
        for_family("flux-dve")


def test_a_size_is_asked_for_where_it_matters_and_only_there():
    for name, preset in PRESETS.items():
        if name in ("flux-dev", "flux-fill", "flux-control", "flux2"):
            for tokens in (None, 0):
                with pytest.raises(InvalidValue, match="size") as refusal:
                    preset.nodes(tokens=tokens)
                assert "tokens=" in refusal.value.do
            assert preset.nodes(9, tokens=256) != preset.nodes(9, tokens=4096)
        else:
            assert preset.nodes() == preset.nodes(tokens=77)


def test_the_shifts_of_flux_in_closed_form():
    def shifted(mu: float, t: float) -> float:
        return exp(mu) / (exp(mu) + 1 / t - 1)

    def mu_of(name: str, steps: int, tokens: int) -> float:
        nodes = PRESETS[name].nodes(steps, tokens=tokens)
        even = [1 - i / steps for i in range(1, steps)]
        first, t = nodes[1].time, even[0]
        mu = float(np.log(first * (1 - t) / (1 - first) / t))
        assert nodes[0].rho == inf and nodes[-1].rho == 0
        assert [n.time for n in nodes[1:-1]] == pytest.approx([shifted(mu, t) for t in even])
        return mu

    assert mu_of("flux-dev", 9, 256) == pytest.approx(0.5, abs=1e-12)
    assert mu_of("flux-dev", 50, 4096) == pytest.approx(1.15, abs=1e-12)
    assert mu_of("flux-dev", 4, (256 + 4096) // 2) == pytest.approx((0.5 + 1.15) / 2, abs=1e-12)
    for tokens in (256, 4096):
        many, few = 1.6927e-4 * tokens + 0.456667, 8.738095e-5 * tokens + 1.898333
        assert mu_of("flux2", 10, tokens) == pytest.approx(few, abs=1e-9)
        assert mu_of("flux2", 200, tokens) == pytest.approx(many, abs=1e-9)
        assert mu_of("flux2", 105, tokens) == pytest.approx((few + many) / 2, abs=1e-9)
    for steps in (10, 50):
        assert mu_of("flux2", steps, 8192) == pytest.approx(1.6927e-4 * 8192 + 0.456667, abs=1e-9)


@pytest.mark.parametrize("name", ["lumina-next", "lumina2"])
def test_a_network_that_says_data_less_noise_is_understood(name: str):
    """Written as the publishers have it: x = s data + (1 - s) noise, the network told s."""
    table = PRESETS[name].table(9)
    state = begin(START)
    for s, by in zip(table.times, table.coefficients(START), strict=True):
        noise = (state.x - s * MEAN) / (1 - s)
        state = step(state, MEAN - noise, by)
    torch.testing.assert_close(state.x, MEAN, rtol=0, atol=1e-12)
    assert table.times[0] == 0


def test_another_solver_over_the_same_places():
    for preset in PRESETS.values():
        own, other = preset.nodes(4 if 4 in preset.offered else 1, tokens=TOKENS), "dpmpp-2m"
        table = preset.table(len(own) - 1, tokens=TOKENS, solver=other)
        assert list(table.nodes) == own[:-1]
    with pytest.raises(NotFound, match="dpmpp-2m"):
        PRESETS["sdxl"].table(solver="dpmp-2m")


def test_the_shipped_painter_is_sampled_as_its_folder_says():
    folder = Path(diptych.__file__).parent / "shipped" / "scenes-t2i"
    said = json.loads((folder / "pipeline.json").read_text())["sampling"]
    preset = PRESETS["diptych-flow"]
    assert said == {"steps": preset.steps, "guidance": preset.guidance, "shift": preset.shift}
    shipped = Sampling(**said).table()
    assert (preset.table().rows == shipped.rows).all() and preset.table().nodes == shipped.nodes


def test_the_page_is_what_the_command_writes():
    assert PAGE.read_text() == page()
    assert all(f"`{name}`" in page() for name in PRESETS)


def test_a_folder_says_its_path_its_list_and_its_prediction():
    sd = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    base = for_family("sdxl")
    same = preset_of(base, {**sd, "timestep_spacing": "leading", "steps_offset": 1})
    assert same.path == base.path and same.spacing_options == base.spacing_options
    turbo = preset_of(base, {**sd, "timestep_spacing": "trailing"})
    assert [round(node.time) for node in turbo.nodes(4)[:-1]] == [999, 749, 499, 249]
    zero = preset_of(base, {**sd, "prediction_type": "v_prediction",
                            "rescale_betas_zero_snr": True})  # fmt: skip
    assert zero.prediction == "v" and zero.nodes(4)[0].alpha == 0
    for wrong in ({"prediction_type": "flow_prediction"}, {"beta_schedule": "nonlinear"},
                  {"trained_betas": [0.1]}):  # fmt: skip
        with pytest.raises(Unreadable, match="not built"):
            preset_of(base, {**sd, **wrong})
