"""Every recipe builds on the meta device from nothing: no file is read, no memory taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diptych.recipes.table import RECIPES, recipe_class


@pytest.mark.parametrize("name", RECIPES)
def test_it_builds_in_an_empty_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with torch.device("meta"):
        plan = recipe_class(name)().build()
    assert {tensor.device.type for tensor in plan.model.state_dict().values()} == {"meta"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", RECIPES)
def test_it_says_what_it_is(name: str):
    assert recipe_class(name).__doc__ and RECIPES[name].line
