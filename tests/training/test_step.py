"""What one step does: accumulation, clipping, precision, the groups, nonsense refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import Net, batch_at, objective, plan
from torch import Tensor, nn

from diptych.foundation.errors import InvalidValue
from diptych.objectives.loss import Loss
from diptych.training.checkpoint import Checkpoint, latest
from diptych.training.loop import train
from diptych.training.optimizers import optimizers_of
from diptych.training.plan import Plan, Settings
from diptych.training.step import Diverged


def saved(run: Path) -> Checkpoint:
    found = latest(run)
    assert found is not None
    return found


class Smooth(nn.Module):
    """No dropout and no batch statistics: a batch may be cut without changing its mean."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def exact_error(model: nn.Module, batch: dict[str, Tensor], _: torch.Generator) -> Loss:
    return Loss((model(batch["x"]).float() - batch["y"]).square().mean())


def settings(**changes: Any) -> Settings:
    given: dict[str, Any] = {"steps": 6, "warmup": 2, "workers": 0, "trackers": ()}
    return Settings(**{**given, "precision": "fp32", **changes})


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_accumulating_four_batches_equals_one_of_four_times_the_size(
    tmp_path: Path, optimizer: str
):
    def joined(index: int) -> dict[str, Tensor]:
        parts = [batch_at(4 * index + i) for i in range(4)]
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    weights: list[dict[str, Tensor]] = []
    for k, source in ((4, batch_at), (1, joined)):
        made = Plan(
            model=Smooth(),
            objective=exact_error,
            batch_at=source,
            settings=settings(accumulation=k, optimizer=optimizer),
        )
        train(made, tmp_path / str(k))
        weights.append(saved(tmp_path / str(k)).tensors["model"])
    # Muon iterates in bfloat16, which turns a last bit of the gradient into more.
    tolerance = 1e-6 if optimizer == "adamw" else 2e-3
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=tolerance)


def test_the_gradient_is_cut_to_the_limit_and_its_norm_logged_before(tmp_path: Path):
    limit = 1e-3
    made = plan(steps=1, warmup=0, clip=limit, log_every=1)
    train(made, tmp_path)
    first_moment = [
        value
        for key, value in saved(tmp_path).tensors["optimizer"].items()
        if "exp_avg:" in f"{key}:"
    ]
    used = torch.cat([value.flatten() for value in first_moment]) / (1 - made.settings.betas[0])
    assert used.norm() == pytest.approx(limit, rel=1e-3)
    from diptych.training.log import read

    assert next(read(tmp_path))["norm"] > 10 * limit


def test_bf16_computes_in_bf16_and_keeps_weights_in_fp32(tmp_path: Path):
    seen: set[torch.dtype] = set()

    def spying(model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Loss:
        seen.add(model(batch["x"]).dtype)
        return objective(model, batch, generator)

    made = dataclasses.replace(plan(steps=2, precision="bf16"), objective=spying)
    train(made, tmp_path)
    assert seen == {torch.bfloat16}
    floating = [v for v in saved(tmp_path).tensors["model"].values() if v.is_floating_point()]
    assert {value.dtype for value in floating} == {torch.float32}


def test_fp16_scales_the_loss_and_skips_steps_that_overflow(tmp_path: Path):
    def steep(model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Loss:
        return Loss(objective(model, batch, generator).total * 100)

    before = {name: value.clone() for name, value in plan().model.named_parameters()}
    made = dataclasses.replace(plan(steps=1, precision="fp16"), objective=steep)
    train(made, tmp_path / "one")
    one = saved(tmp_path / "one")
    assert one.state["scaler"]["scale"] < 2**16
    for name, value in before.items():
        assert torch.equal(value, one.tensors["model"][name]), "an infinite gradient was used"
    train(dataclasses.replace(plan(precision="fp16"), objective=steep), tmp_path / "many")
    many = saved(tmp_path / "many").tensors["model"]
    assert all(many[name].isfinite().all() for name in before)
    assert any(not torch.equal(many[name], value) for name, value in before.items())


def test_who_gets_muon_and_who_gets_decay():
    made = plan(optimizer="muon", weight_decay=0.1)
    muon, adamw = optimizers_of(made, "fp32")
    names = {id(parameter): name for name, parameter in made.model.named_parameters()}
    groups = [[names[id(p)] for p in group["params"]] for group in muon.param_groups]
    assert groups == [["hidden.0.weight", "hidden.1.weight", "hidden.2.weight", "wide.weight"]]
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.0]
    assert [names[id(p)] for p in adamw.param_groups[0]["params"]] == [
        *("point_in.weight", "point_in.bias", "hidden.1.bias", "hidden.2.bias", "wide.bias"),
        *("norm.weight", "norm.bias", "point_out.weight", "point_out.bias"),
    ]


def test_frozen_parameters_stay_as_they_are(tmp_path: Path):
    made = plan(steps=3)
    assert isinstance(made.model, Net)
    made.model.wide.requires_grad_(False)
    before = made.model.wide.weight.clone()
    train(made, tmp_path)
    assert torch.equal(before, saved(tmp_path).tensors["model"]["wide.weight"])
    assert not [key for key in saved(tmp_path).tensors["optimizer"] if key.startswith("wide")]


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(tmp_path: Path):
    def bad_at_7(index: int) -> dict[str, Tensor]:
        batch = batch_at(index)
        return {**batch, "y": batch["y"] * float("nan")} if index == 7 else batch

    made = dataclasses.replace(plan(save_every=1e-9), batch_at=bad_at_7)
    with pytest.raises(Diverged, match=r"Step 8 gave loss nan.*checkpoint of step 7 is kept"):
        train(made, tmp_path)
    assert saved(tmp_path).step == 7
    assert all(v.isfinite().all() for v in saved(tmp_path).tensors["average"].values())


def test_gradient_checkpointing_is_asked_of_the_model_or_refused(tmp_path: Path):
    with pytest.raises(InvalidValue, match="no gradient checkpointing"):
        train(plan(gradient_checkpointing=True), tmp_path)

    class Thrifty(Net):
        asked = False

        def set_gradient_checkpointing(self, on: bool) -> None:
            self.asked = on

    model = Thrifty()
    train(dataclasses.replace(plan(steps=1, gradient_checkpointing=True), model=model), tmp_path)
    assert model.asked
