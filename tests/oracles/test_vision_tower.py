"""The vision tower against transformers' towers with the same random weights, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from networks import all_apart, apart, drawn, gradients
from torch import Tensor, nn
from towers import CASES, Case, pair, wide

from diptych.checkpoints.families.vision_names import internvit_names
from diptych.checkpoints.rules import ours_of, plan_of, shape_of
from diptych.foundation.errors import InvalidValue
from diptych.models.vision_blocks import fractional_places
from diptych.models.vision_tower import (
    DINOV2_B,
    DINOV2_G,
    DINOV2_L,
    INTERNVIT_300M,
    VisionTower,
    VisionTowerConfig,
)

every_tower = pytest.mark.parametrize("name", CASES)


def outputs_of_theirs(case: Case, theirs: nn.Module, x: Tensor, **said: Any) -> list[Tensor]:
    with wide():
        out = theirs(x, **case.asked, **said)
    # CLIP's own norm is on the class alone; where nothing pools, `pooler_output` is None.
    return [
        one
        for one in (None if case.config.input_norm else out.last_hidden_state, out.pooler_output)
        if one is not None
    ]


def outputs_of_ours(case: Case, ours: VisionTower, x: Tensor, **said: Any) -> list[Tensor]:
    out = ours(x, **said)
    return [
        one for one in (None if case.config.input_norm else out.last, out.pooled) if one is not None
    ]


@every_tower
def test_the_same_states(name: str):
    case = CASES[name]
    ours, theirs = pair(case)
    x = drawn(2, 3, *case.size)
    with torch.no_grad():
        wanted = outputs_of_theirs(case, theirs, x)
        assert all_apart(outputs_of_ours(case, ours, x), wanted) <= 1e-9
        rounded = outputs_of_ours(case, ours.float(), x.float())
        assert all_apart(rounded, wanted) <= 1e-5


@every_tower
def test_every_layer_by_its_number(name: str):
    """Theirs heard by hooks: what goes into the first layer, and what comes out of each. Layers
    behind the asked one are not run."""
    case = CASES[name]
    ours, theirs = pair(case)
    heard: list[Tensor] = []
    run: list[nn.Module] = []
    layers = next(m for m in theirs.modules() if isinstance(m, nn.ModuleList) and len(m) == 3)
    layers[0].register_forward_pre_hook(
        lambda _, args, said: heard.append(args[0] if args else said["hidden_states"]),
        with_kwargs=True,
    )
    for layer in layers:
        layer.register_forward_hook(
            lambda _, args, out: heard.append(out if isinstance(out, Tensor) else out[0])
        )
    for layer in ours.encoder.layers:
        layer.register_forward_hook(lambda module, args, out: run.append(module))
    x = drawn(2, 3, *case.size)
    with torch.no_grad(), wide():
        theirs(x, **case.asked)
        assert len(heard) == 4
        for at, wanted in enumerate(heard):
            for number in (at, at - 4):
                run.clear()
                out = ours(x, layer=number)
                assert apart(out.states, wanted) <= 1e-9
                assert len(run) == at and (out.last is None) == (at < 3)
    for number in (4, -5):
        with pytest.raises(InvalidValue, match=f"no layer {number}"):
            ours(x, layer=number)


@every_tower
def test_the_same_gradients(name: str):
    case = CASES[name]
    ours, theirs = pair(case)
    takes = plan_of(case.named(case.config), [key for key, _ in ours.named_parameters()])
    takes = [take for take in takes if not take.ours.endswith(("mask_token", "k_proj.bias"))]
    found = []
    for network, outputs, names in (
        (ours, outputs_of_ours, [take.ours for take in takes]),
        (theirs, outputs_of_theirs, [take.theirs for take in takes]),
    ):
        x = drawn(2, 3, *case.size).requires_grad_(True)
        out = torch.cat([one.flatten() for one in outputs(case, network, x)])
        parameters = {name: network.get_parameter(name) for name in names}
        made = gradients(lambda out=out: out, [x, *parameters.values()])
        by_name = dict(zip(parameters, made[1:], strict=True))
        found.append([made[0], *(by_name[name] for name in names)])
    picture, *rest = found[1]
    rest = [ours_of(take, one) for take, one in zip(takes, rest, strict=True)]
    assert all_apart(found[0], [picture, *rest]) <= 1e-9


MASKED = [name for name, case in CASES.items() if case.config.mask_token]


@pytest.mark.parametrize("name", MASKED)
def test_hidden_patches_are_the_mask_token(name: str):
    case = CASES[name]
    ours, theirs = pair(case)
    x = drawn(2, 3, *case.size)
    masked = drawn(2, case.size[0] * case.size[1] // 16, seed=3) > 0.5
    assert masked.any() and not masked.all()
    with torch.no_grad():
        wanted = outputs_of_theirs(case, theirs, x, bool_masked_pos=masked)
        assert all_apart(outputs_of_ours(case, ours, x, masked=masked), wanted) <= 1e-9
        assert all_apart(outputs_of_ours(case, ours, x), wanted) > 1e-2


def partly(*sizes: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """[B, h, w]: so many rows and columns of patches are filled."""
    filled = torch.zeros(len(sizes), *grid, dtype=torch.bool)
    for row, (height, width) in zip(filled, sizes, strict=True):
        row[:height, :width] = True
    return filled


def test_partly_filled_pictures_see_and_are_placed_by_what_is_filled():
    case = CASES["Idefics3"]
    ours, theirs = pair(case)
    filled = partly((5, 5), (2, 4), (4, 1), (3, 3), grid=(5, 5))
    x = drawn(4, 3, 20, 20)
    other = x.clone()
    hidden = ~filled.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    other[hidden.expand_as(x)] = 9.0
    with torch.no_grad():
        wanted = theirs(x, patch_attention_mask=filled).last_hidden_state
        out = ours(x, filled=filled)
        assert out.last is not None and apart(out.last, wanted) <= 1e-9
        # What is not filled is not seen.
        seen = filled.flatten(1)
        again = ours(other, filled=filled).last
        assert torch.equal(again[seen], out.last[seen])
        # A picture alone is what it is in the corner of a larger one.
        alone = ours(x[1:2, :, :8, :16]).last
        assert apart(out.last[1][seen[1]], alone[0]) <= 1e-9


def test_places_are_those_of_their_buckets():
    """On the sides of published towers (Idefics3 26, SmolVLM 27 and 32). On some others, as 25 and
    70, their rounded shares fall into the bucket before: a whole picture skips a place."""
    for side in (14, 16, 24, 26, 27, 28, 32, 64):
        table = torch.arange(1 / side, 1.0, 1 / side)
        for count in range(1, side + 1):
            share = (torch.arange(float(count)) * (1.0 / torch.tensor(count))).clamp(max=1 - 1e-6)
            wanted = torch.bucketize(share, table, right=True)
            column = fractional_places(torch.ones(1, count, 1, dtype=torch.bool), side)
            row = fractional_places(torch.ones(1, 1, count, dtype=torch.bool), side)
            assert torch.equal(column[0], side * wanted) and torch.equal(row[0], wanted)


def test_what_a_tower_has_no_places_for_is_refused():
    fixed = VisionTower(VisionTowerConfig.tiny(placing="fixed")).eval()
    with pytest.raises(InvalidValue, match="20 x 16 has no places"):
        fixed(torch.zeros(1, 3, 16, 20))
    with pytest.raises(InvalidValue, match="filled"):
        fixed(torch.zeros(1, 3, 16, 16), filled=torch.ones(1, 4, 4, dtype=torch.bool))
    with pytest.raises(InvalidValue, match="mask token"):
        fixed(torch.zeros(1, 3, 16, 16), masked=torch.ones(1, 16, dtype=torch.bool))


@pytest.mark.parametrize(
    "wrong",
    [
        {"heads": 5},
        {"class_token": False},
        {"class_token": False, "registers": 0, "pooling": "class"},
        {"placing": "fractional"},
    ],
)
def test_a_config_that_cannot_be_is_refused(wrong: dict[str, Any]):
    with pytest.raises(InvalidValue):
        VisionTowerConfig.tiny(**wrong)


@pytest.mark.parametrize(
    ("config", "count"),
    [(DINOV2_B, 86_580_480), (DINOV2_L, 304_368_640), (DINOV2_G, 1_136_480_768)],
)
def test_full_sizes_have_the_published_parameters(config: VisionTowerConfig, count: int):
    with torch.device("meta"):
        ours = VisionTower(config)
    assert sum(p.numel() for p in ours.parameters()) == count


def test_intervit_has_the_size_of_theirs():
    with torch.device("meta"):
        ours, theirs = (
            VisionTower(INTERNVIT_300M),
            hf.InternVLVisionModel(hf.InternVLVisionConfig(attention_bias=True)),
        )
    shapes = {name: value.shape for name, value in ours.state_dict().items()}
    plan = plan_of(internvit_names(INTERNVIT_300M), shapes)
    assert {take.theirs: shape_of(take, shapes[take.ours]) for take in plan} == {
        name: tuple(value.shape) for name, value in theirs.state_dict().items()
    }
