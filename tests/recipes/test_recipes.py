"""Every recipe can be found, changed, built without memory; the smallest is trained for real."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from math import pi, sqrt
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diptych.foundation.config import from_json, to_json, with_changes
from diptych.foundation.errors import InvalidValue, NotFound
from diptych.models.mlp_flow import MLPFlow, MLPFlowConfig
from diptych.recipes.moons_flow import (
    WIDTH_OF_MOON,
    MoonsFlow,
    distance_to_moons,
    moons,
    sample,
)
from diptych.recipes.table import RECIPES, recipe_class
from diptych.training.loop import train
from diptych.training.plan import Plan


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_data_that_builds_a_plan(name: str):
    kind = recipe_class(name)
    recipe = kind()
    assert from_json(kind, json.loads(json.dumps(to_json(recipe)))) == recipe
    changed = with_changes(recipe, ["training.steps=7"])
    with torch.device("meta"):
        plan = changed.build()
    assert isinstance(plan, Plan) and plan.settings.steps == 7
    assert {p.device.type for p in plan.model.parameters()} == {"meta"}


def test_the_table_loads_no_torch():
    code = "import sys, diptych.recipes.table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_wrong_name_and_a_wrong_key_name_the_right_one():
    with pytest.raises(NotFound, match="curve-flow"):
        recipe_class("curve-flo")
    with pytest.raises(InvalidValue, match="learning_rate"):
        with_changes(MoonsFlow(), ["training.learning_rat=1"])
    with pytest.raises(InvalidValue, match="steps must be at least 1"):
        with_changes(MoonsFlow(), ["training.steps=0"])


def test_points_are_a_function_of_seed_and_index_and_lie_on_the_moons():
    assert torch.equal(moons(0, 5, count=64), moons(0, 5, count=64))
    assert not torch.equal(moons(0, 5, count=64), moons(0, 6, count=64))
    # The distance of a Gaussian around a line is half normal; the ends add a little.
    mean = float(distance_to_moons(moons(0, 0, count=20_000)).mean())
    assert mean == pytest.approx(WIDTH_OF_MOON * sqrt(2 / pi), rel=0.05)


def test_a_trained_flow_draws_moons_and_can_be_loaded_again(tmp_path: Path):
    recipe = with_changes(
        MoonsFlow(),
        ["training.steps=600", "training.trackers=", "training.warmup=20", "training.ema=0.95"],
    )
    recipe = replace(recipe, batch=256, model=MLPFlowConfig(width=64, depth=2))
    plan = recipe.build()
    untrained = float(distance_to_moons(sample(plan.model, 500, seed=1)).mean())
    outcome = train(plan, tmp_path)
    recipe.finish(plan, tmp_path)
    assert outcome.state == "finished"
    distance = float(distance_to_moons(sample(plan.model, 500, seed=1)).mean())
    assert distance < 0.14 < untrained / 2
    assert (tmp_path / "probes" / "0000600" / "samples.png").exists()

    config = json.loads((tmp_path / "config.json").read_text())
    loaded = MLPFlow(from_json(MLPFlowConfig, config["config"]))
    loaded.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    assert torch.equal(sample(loaded, 50, seed=2), sample(plan.model, 50, seed=2))
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["step"] == 600 and record["finished"] and record["scores"]["samples"]
