"""Folders written from single files and from folders: they hold the same tensors, paint the same
picture, and are written whole or not at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from diptych.checkpoints.load import found_in, load
from diptych.checkpoints.write import write_file_of, write_single_file
from diptych.checkpoints.write_folder import write_folder
from diptych.foundation.errors import InvalidValue, NotFound, Unreadable
from diptych.models.unet import UNet
from diptych.pipelines.painter_front import TextToImage
from tests.tiny_flow import FLOWS, tiny_flow_file
from tests.tiny_stable_diffusion import FAMILIES, LINEAR, all_drawn, tiny_file, tiny_networks
from tests.tiny_t5 import spiece_folder
from tests.tiny_transformers import tiny_transformer_file

ASKED = {"prompt": "a red cat", "seed": 3, "steps": 2, "width": 16, "height": 16}


def made(path: Path, family: str) -> Path:
    """A single file of a family that a config.json can say, with T5's words beside it."""
    if family in FLOWS:
        spiece_folder(path.parent / ("tokenizer_3" if family.startswith("sd3") else "tokenizer_2"))
        return tiny_flow_file(path, family)
    if family != "sdxl":
        return tiny_file(path, family)
    networks = tiny_networks(family)
    config = replace(networks["unet"].config, mid_depth=1)
    return write_single_file(path, all_drawn({**networks, "unet": UNet(config)}))


def tensors(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {one.part.component: load(one).state_dict() for one in found_in(path)}


def same(one: Path, other: Path) -> None:
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    for name, state in first.items():
        assert state.keys() == second[name].keys()
        for key, tensor in state.items():
            assert tensor.dtype == second[name][key].dtype
            assert torch.equal(tensor, second[name][key])


QUICK = ("sd1", "sdxl-refiner", "flux-fill")
EACH = [
    family if family in QUICK else pytest.param(family, marks=pytest.mark.slow)
    for family in (*FAMILIES, *FLOWS)
]


@pytest.mark.parametrize("family", EACH)
def test_file_to_folder_to_file_to_folder(family: str, tmp_path: Path):
    file = made(tmp_path / "one.safetensors", family)
    folder = write_folder(file, tmp_path / "folder")
    same(file, folder)
    networks = {one.part.component: load(one) for one in found_in(folder)}
    again = write_single_file(tmp_path / "two.safetensors", networks)
    stored = load_file(file)
    assert stored.keys() == load_file(again).keys()
    assert all(torch.equal(t, stored[key]) for key, t in load_file(again).items())
    second = write_folder(again, tmp_path / "second")
    for name in ("model_index.json", *(f"{name}/config.json" for name in networks)):
        assert (second / name).read_text() == (folder / name).read_text()
    same(folder, second)


@pytest.mark.parametrize("family", ["sd2", "sdxl", "sd3.5-medium", "flux-schnell"])
def test_a_folder_paints_what_its_file_paints(family: str, tmp_path: Path):
    file = made(tmp_path / "one.safetensors", family)
    models = [TextToImage.load(str(path)) for path in (file, write_folder(file, tmp_path / "f"))]
    assert models[0].sampling == models[1].sampling and models[0].size == models[1].size
    assert models[0](**ASKED).tobytes() == models[1](**ASKED).tobytes()


@pytest.mark.parametrize("zero", [False, True])
def test_marks_become_a_schedule(zero: bool, tmp_path: Path):
    file = made(tmp_path / "one.safetensors", "sd2")
    stored = load_file(file) | {"v_pred": torch.empty(0)}
    stored |= {"ztsnr": torch.empty(0)} if zero else {}
    save_file(stored, file)
    folder = write_folder(file, tmp_path / "f")
    models = [TextToImage.load(str(path)) for path in (file, folder)]
    assert models[0].sampling == models[1].sampling
    assert models[0](**ASKED).tobytes() == models[1](**ASKED).tobytes()
    said = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert said["prediction_type"] == "v_prediction"
    assert said.get("rescale_betas_zero_snr", False) is zero
    assert json.loads((folder / "unet" / "config.json").read_text())["sample_size"] == 96
    again = load_file(write_file_of(folder, tmp_path / "again.safetensors"))
    assert again.keys() == stored.keys()


def test_shards_and_types(tmp_path: Path):
    file = made(tmp_path / "one.safetensors", "sd1")
    whole, cut = write_folder(file, tmp_path / "a"), tmp_path / "b"
    write_folder(file, cut, shard=200_000)
    files = sorted(path.name for path in (cut / "unet").glob("*.safetensors"))
    assert len(files) > 2 and files[0].startswith("diffusion_pytorch_model-00001-of-000")
    assert all(path.stat().st_size < 220_000 for path in (cut / "vae").glob("*.safetensors"))
    same(whole, cut)
    half = write_folder(cut, tmp_path / "c", torch.float16)
    for name, state in tensors(half).items():
        wanted = tensors(whole)[name]
        assert all(torch.equal(t, wanted[key].half()) for key, t in state.items())
    with pytest.raises(InvalidValue, match="0 bytes"):
        write_folder(file, tmp_path / "d", shard=0)
    assert not (tmp_path / "d").exists() and not list(tmp_path.glob(".d*"))


def test_what_a_folder_says_is_kept(tmp_path: Path):
    folder = write_folder(made(tmp_path / "one.safetensors", "sd1"), tmp_path / "a")
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (folder / "model_index.json").write_text(json.dumps(index))
    shutil.copytree(folder / "vae", folder / "safety_checker")
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"upcast_attention": True}))
    other = write_folder(folder, tmp_path / "b")
    assert json.loads((other / "unet" / "config.json").read_text())["upcast_attention"] is True
    for name in ("tokenizer/vocab.json", "scheduler/scheduler_config.json"):
        assert (other / name).read_bytes() == (folder / name).read_bytes()
    assert json.loads((other / "model_index.json").read_text())["safety_checker"] == [None, None]
    assert not (other / "safety_checker").exists()
    same(folder, other)


@pytest.mark.parametrize("family", ["dit", "lumina-next", "lumina2"])
def test_one_network_alone_is_a_components_folder(family: str, tmp_path: Path):
    file = tiny_transformer_file(tmp_path / "one.safetensors", family)
    folder = write_folder(file, tmp_path / "transformer")
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    same(file, folder)


def test_what_makes_no_folder_is_refused(tmp_path: Path):
    file = made(tmp_path / "one.safetensors", "sd1")
    (tmp_path / "there").mkdir()
    with pytest.raises(InvalidValue, match="there already"):
        write_folder(file, tmp_path / "there")
    networks = tiny_networks("sd1")
    del networks["text_encoder"]
    part = write_single_file(tmp_path / "part.safetensors", networks)
    with pytest.raises(InvalidValue, match="and no text_encoder"):
        write_folder(part, tmp_path / "x")
    five = {**tiny_networks("sd2"), "unet": UNet(replace(LINEAR, in_channels=5))}
    odd = write_single_file(tmp_path / "odd.safetensors", all_drawn(five))
    with pytest.raises(InvalidValue, match="takes 5 channels"):
        write_folder(odd, tmp_path / "x")
    flux = tiny_flow_file(tmp_path / "flux.safetensors", "flux-dev")
    with pytest.raises(NotFound, match="tokenizer_2"):
        write_folder(flux, tmp_path / "x")
    torn = load_file(file)
    torn.popitem()
    save_file(torn, tmp_path / "torn.safetensors")
    with pytest.raises(Unreadable, match="missing"):
        write_folder(tmp_path / "torn.safetensors", tmp_path / "x")
    assert not (tmp_path / "x").exists() and not list(tmp_path.glob(".x*"))
