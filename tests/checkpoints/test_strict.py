"""Every tensor of a file has its place, or is named; nothing is applied in part or in silence."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from diptych.checkpoints.families.scheduler import preset_by_marks
from diptych.checkpoints.layouts import LAYOUTS, parts_of
from diptych.checkpoints.load import found_in, load
from diptych.checkpoints.presets import PRESETS
from diptych.checkpoints.rules import (
    COLUMNS,
    SAME,
    SQUEEZE,
    SWAP_HALVES,
    TRANSPOSE,
    Rule,
    ours_of,
    plan_of,
    shape_of,
    stored_of,
)
from diptych.checkpoints.write import write_single_file
from diptych.foundation.errors import InvalidValue, Unreadable
from diptych.models.clip import CLIP, CLIPConfig
from diptych.models.clip_vision import CLIPVision, CLIPVisionConfig
from diptych.models.controlnet import ControlNet, ControlNetConfig
from diptych.models.controlnet_union import ControlNetUnion, ControlNetUnionConfig
from diptych.models.flux import Flux
from diptych.models.ip_adapter import IPAdapter, IPAdapterConfig
from diptych.models.sd3 import SD3
from diptych.models.siglip import SigLIP, SigLIPConfig
from diptych.models.t2i_adapter import T2IAdapter, T2IAdapterConfig
from diptych.models.t5_encoder import T5Encoder
from diptych.models.vision_tower import VisionTower, VisionTowerConfig
from tests.tiny_flow import FLUX, SD3_TINY, T5
from tests.tiny_stable_diffusion import FAMILIES, tiny_file, tiny_networks
from tests.tiny_transformers import one_of_each

Tensors = dict[str, Tensor]
SOME = "model.diffusion_model.out.0.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_file(tmp_path_factory.mktemp("sd") / "tiny.safetensors")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("families")
    return {name: tiny_file(folder / f"{name}.safetensors", name) for name in FAMILIES}


def changed(whole: Path, path: Path, change: Callable[[Tensors], object]) -> Path:
    tensors = load_file(whole)
    change(tensors)
    save_file(tensors, path)
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_all_is_applied_and_comes_back_to_the_bit(family: str, files, tmp_path: Path):
    whole = files[family]
    drawn = tiny_networks(family)
    found = {one.part.component: one for one in found_in(whole)}
    assert found.keys() == drawn.keys()
    for one in found.values():
        assert one.report.applied == one.report.total > 30 and not one.report.problems
        assert not one.report.ignored
    assert found["unet"].report.family == family
    assert found["unet"].report.assumed["prediction"] == "eps"
    networks = {name: load(one) for name, one in found.items()}
    assert {name: network.config for name, network in networks.items()} == {
        name: network.config for name, network in drawn.items()
    }
    for name, network in networks.items():
        mine, theirs = network.state_dict(), drawn[name].state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    again = write_single_file(tmp_path / "again.safetensors", networks)
    assert again.read_bytes() == whole.read_bytes()


FULL = """
import resource
from pathlib import Path
from diptych.checkpoints.write import write_single_file
from diptych.models.flux import Flux
from diptych.models.sd3 import SD3
from diptych.models.t5_encoder import T5Encoder
from diptych.models.vision_tower import VisionTower, VisionTowerConfig
from tests.tiny_flow import FLUX, SD3_TINY, T5
from tests.tiny_stable_diffusion import tiny_networks
networks = tiny_networks()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
write_single_file(Path("whole.safetensors"), networks)
"""


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path: Path):
    """The process may write 100 kB a file: the model does not fit."""
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", FULL],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([root, f"{root}/src"])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "NotWritten: Cannot write" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_another_type_is_converted_and_the_rest_is_mapped(whole: Path):
    for one in found_in(whole):
        network = load(one, torch.float16)
        assert {p.dtype for p in network.parameters()} == {torch.float16}
        assert not any(p.requires_grad for p in network.parameters()) and not network.training


def renamed(tensors: Tensors) -> None:
    tensors["model.diffusion_model.out.0.weightt"] = tensors.pop(SOME)


BROKEN: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "missing": (lambda t: t.pop(SOME), r"diffusion_model.out.0.weight' is missing"),
    "renamed": (renamed, "is missing, nearest: 'model.diffusion_model.out.0.weightt'"),
    "stray": (lambda t: t.update({f"{SOME}x": torch.ones(1)}), "weightx' has no place"),
    "stranger": (lambda t: t.update({"of.nobody": torch.ones(1)}), "'of.nobody' has no place"),
    "misshaped": (
        lambda t: t.update({SOME: torch.ones(7)}), r"out.0.weight' is \[7\], not \[32\]"
    ),
    "not a number": (lambda t: t[SOME].fill_(float("nan")), "out.0.weight'.*not finite"),
    "infinite": (lambda t: t[SOME].fill_(float("inf")), "out.0.weight'.*not finite"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_an_error_that_names_it(kind: str, whole: Path, tmp_path: Path):
    change, said = BROKEN[kind]
    path = changed(whole, tmp_path / "broken.safetensors", change)
    with pytest.raises(Unreadable, match=said):
        for one in found_in(path):
            load(one)


def test_what_is_known_to_say_nothing_is_listed(whole: Path, tmp_path: Path):
    nothing = {
        "model_ema.decay": torch.ones(1),
        "alphas_cumprod": torch.ones(10),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77),
    }
    path = changed(whole, tmp_path / "more.safetensors", lambda t: t.update(nothing))
    ignored = [name for one in found_in(path) for name in one.report.ignored]
    assert sorted(ignored) == [
        "alphas_cumprod",
        "cond_stage_model.transformer.text_model.embeddings.position_ids",
        "model_ema.decay",
    ]
    for one in found_in(path):
        load(one)


def foreign(tensors: Tensors) -> None:
    """Most of the U-Net under names that are nobody's."""
    for name in [name for name in tensors if name.startswith("model.diffusion_model.")]:
        if ".in_layers." in name or ".emb_layers." in name:
            tensors[name.replace("_layers.", "_parts.")] = tensors.pop(name)


def test_of_many_foreign_names_all_are_told_and_few_looked_up(whole: Path, tmp_path: Path):
    """To look for the nearest of thousands takes minutes: the first of each kind get it."""
    found = found_in(changed(whole, tmp_path / "foreign.safetensors", foreign))
    unet = next(one for one in found if one.part.component == "unet")
    for kind in ("missing", "unused"):
        told = [p.said for p in unet.report.problems if p.kind == kind]
        assert len(told) > 40 and sum("nearest" in said for said in told) == 20


def test_what_a_user_accepts_is_accepted(whole: Path, tmp_path: Path):
    stray = {"model.diffusion_model.x": torch.ones(1)}
    path = changed(whole, tmp_path / "more.safetensors", lambda t: t.update(stray))
    unet = next(
        one for one in found_in(path, allow=[next(iter(stray))]) if one.part.component == "unet"
    )
    assert unet.report.allowed == tuple(stray)
    load(unet)
    with pytest.raises(InvalidValue, match=r"'y'.*nothing is wrong"):
        found_in(path, allow=["y"])


def test_what_a_network_needs_cannot_be_allowed_away(whole: Path, tmp_path: Path):
    path = changed(whole, tmp_path / "less.safetensors", lambda t: t.pop(SOME))
    with pytest.raises(InvalidValue, match=r"out.0.weight' is missing.*paints nothing"):
        found_in(path, allow=[SOME])


OPENCLIP = {
    "sd2": "cond_stage_model.model.",
    "sdxl": "conditioner.embedders.1.model.",
    "sdxl-refiner": "conditioner.embedders.0.model.",
}
BLOCK = "transformer.resblocks.1."


def halved(tensors: Tensors, name: str) -> None:
    tensors[name] = tensors[name][: len(tensors[name]) // 3].clone()


# What goes wrong with a tensor of OpenCLIP's layout -> what is done to it, what is said.
IN_OPENCLIP: dict[str, tuple[str, Callable[[Tensors, str], object], str]] = {
    "missing": (BLOCK + "attn.in_proj_weight", lambda t, n: t.pop(n), "{}' is missing"),
    "misshaped": (BLOCK + "attn.in_proj_bias", halved, r"{}' is \[\d+\], not \[\d+\]"),
    "renamed": (
        BLOCK + "mlp.c_fc.weight", lambda t, n: t.update({f"{n}s": t.pop(n)}),
        "{0}' is missing, nearest: '{0}s'",
    ),
    "stray": (
        BLOCK + "attn.in_proj_weight", lambda t, n: t.update({f"{n}.q": torch.ones(1)}),
        r"{}\.q' has no place",
    ),
    "no config": ("positional_embedding", lambda t, n: t.pop(n), "positional_embedding"),
    "no marks": ("ln_final.weight", lambda t, n: t.pop(n), "no place"),
}  # fmt: skip


@pytest.mark.parametrize("kind", IN_OPENCLIP)
@pytest.mark.parametrize("family", OPENCLIP)
def test_a_broken_openclip_is_an_error_that_names_it(family: str, kind: str, files, tmp_path: Path):
    leaf, change, said = IN_OPENCLIP[kind]
    name = OPENCLIP[family] + leaf
    path = changed(files[family], tmp_path / "broken.safetensors", lambda t: change(t, name))
    with pytest.raises(Unreadable, match=said.format(re.escape(name))) as caught:
        for one in found_in(path):
            one.report.check()
    assert str(caught.value).count("is missing") <= 1  # one tensor of three of ours


def test_sd2_has_a_projection_that_nothing_reads(files, tmp_path: Path):
    more = {
        f"{OPENCLIP['sd2']}{name}": torch.ones(()) for name in ("text_projection", "logit_scale")
    }
    path = changed(files["sd2"], tmp_path / "more.safetensors", lambda t: t.update(more))
    found = {one.part.component: one.report for one in found_in(path)}
    assert sorted(found["text_encoder"].ignored) == sorted(more)
    assert not any(report.problems for report in found.values())
    # In SDXL it is read.
    name = OPENCLIP["sdxl"] + "text_projection"
    path = changed(files["sdxl"], tmp_path / "less.safetensors", lambda t: t.pop(name))
    with pytest.raises(Unreadable, match="text_projection"):
        found_in(path)


def test_marks_of_v_prediction_are_told(files, tmp_path: Path):
    marks = {"v_pred": torch.empty(0), "ztsnr": torch.empty(0)}
    path = changed(files["sdxl"], tmp_path / "v.safetensors", lambda t: t.update(marks))
    found = {one.part.component: one.report for one in found_in(path)}
    assert found["unet"].assumed["prediction"] == "v, for there is v_pred and ztsnr"
    assert not any(report.problems or report.ignored for report in found.values())
    preset = preset_by_marks(PRESETS["sdxl"], marks)
    assert (preset.prediction, preset.spacing) == ("v", "trailing")
    assert preset.nodes(4)[0].alpha == 0  # noise alone
    assert preset_by_marks(PRESETS["sdxl"], ["v_pred"]).path == PRESETS["sdxl"].path
    assert preset_by_marks(PRESETS["sdxl"], []) is PRESETS["sdxl"]


def test_a_file_is_of_one_family(tmp_path: Path):
    networks = tiny_networks("sdxl")
    del networks["unet"]
    with pytest.raises(InvalidValue, match="family"):
        write_single_file(tmp_path / "x.safetensors", networks)
    path = write_single_file(tmp_path / "x.safetensors", networks, family="sdxl")
    assert {one.part.component for one in found_in(path)} == networks.keys()
    with pytest.raises(InvalidValue, match="'text_encoder_2' has no place"):
        write_single_file(tmp_path / "y.safetensors", networks, family="sd2")


UNBUILT = {
    "Chroma": "model.diffusion_model.distilled_guidance_layer.in_proj.weight",
    "FLUX.2": "double_stream_modulation_img.lin.weight",
    "Z-Image": "layers.0.adaLN_modulation.0.weight",
}


@pytest.mark.parametrize("family", UNBUILT)
def test_a_family_that_is_not_built_is_refused_by_name(family: str, tmp_path: Path):
    path = tmp_path / "other.safetensors"
    save_file({UNBUILT[family]: torch.ones(2, 2)}, path)
    with pytest.raises(Unreadable, match=f"{family}.*not built"):
        found_in(path)


def test_an_adapter_is_no_model(tmp_path: Path):
    path = tmp_path / "lora.safetensors"
    name = "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"
    save_file({name: torch.ones(2, 2)}, path)
    with pytest.raises(Unreadable, match=r"adapter and no model.*--lora"):
        found_in(path)


def test_what_nobody_knows_is_refused(tmp_path: Path):
    path = tmp_path / "other.safetensors"
    save_file({"fc.weight": torch.ones(2, 2)}, path)
    with pytest.raises(Unreadable, match=r"No family.*fc\.weight"):
        found_in(path)
    with pytest.raises(Unreadable, match="No family"):
        parts_of({})


@pytest.mark.parametrize("op", [SAME, SQUEEZE, TRANSPOSE, COLUMNS, SWAP_HALVES])
@pytest.mark.parametrize("shares", [(1,), (1, 1, 1), (1, 1, 1, 4), (3, 1)])
def test_a_rule_goes_both_ways(op: str, shares: tuple[int, ...]):
    names, parts = [f"x.{k}.weight" for k in range(len(shares))], len(shares)
    said = shares if len(set(shares)) > 1 else ()
    rules = [Rule(name, "y.w", op, k, parts, shares=said) for k, name in enumerate(names)]
    # Transposed, rows are what shares are of as the file has them.
    sizes = [(4, 6 * s) if op == TRANSPOSE else (6 * s, 4) for s in shares]
    ours = {name: torch.randn(size) for name, size in zip(names, sizes, strict=True)}
    plan = plan_of(rules, names, "p.")
    stored = stored_of(plan, ours)
    assert stored.keys() == {"p.y.w"}
    whole = (4, 6 * sum(shares)) if op == COLUMNS else (6 * sum(shares), 4)
    for take in plan:
        assert torch.equal(ours_of(take, stored["p.y.w"]), ours[take.ours])
        assert shape_of(take, tuple(ours[take.ours].shape)) == whole
        assert stored["p.y.w"].shape[:2] == whole


def test_no_two_of_our_tensors_lie_in_one_place():
    networks = tiny_networks("sdxl") | {
        "controlnet": ControlNet(ControlNetConfig.tiny()),
        "controlnet_union": ControlNetUnion(ControlNetUnionConfig.tiny()),
        "t2i_adapter": T2IAdapter(T2IAdapterConfig.tiny()),
        "ip_adapter": IPAdapter(IPAdapterConfig.tiny()),
        "image_encoder": CLIPVision(CLIPVisionConfig.tiny()),
        "clip": CLIP(CLIPConfig.tiny()),
        "siglip": SigLIP(SigLIPConfig.tiny()),
        "vision_tower": VisionTower(VisionTowerConfig.tiny(mask_token=True)),
        "vision_tower_pooled": VisionTower(VisionTowerConfig.tiny(pooling="dense")),
        "flux": Flux(FLUX),
        "sd3": SD3(SD3_TINY),
        "t5": T5Encoder(T5),
        **one_of_each(),
    }
    for layout in LAYOUTS:
        network = networks[layout.kind or layout.component]
        plan = plan_of(layout.rules(network.config), network.state_dict())
        places = [
            (place, take.rule.part)
            for take in plan
            for place in (take.theirs, *take.also)
            # The words of Lumina-Next are looked at with the patches' own query.
            if not (layout.kind == "lumina-next" and ".attn2." in take.ours)
        ]
        assert len(set(places)) == len(places)
