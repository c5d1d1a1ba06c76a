"""SD3 and FLUX as published: single files beside folders, what diffusers reads of ours, and what
is refused by name. The models are those of `test_flow_pipelines`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders import single_file_utils
from PIL import Image
from safetensors.torch import load_file

from diptych.checkpoints.load import found_in, load
from diptych.checkpoints.write import write_single_file
from diptych.foundation.errors import InvalidValue, NotFound, Unreadable
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.painting import Begin, Request
from diptych.pipelines.tiles import Tiling
from tests.oracles.test_flow_pipelines import loaded, published
from tests.tiny_t5 import spiece_folder

pytestmark = pytest.mark.filterwarnings("ignore")
__all__ = ["published"]  # a fixture


@pytest.mark.parametrize("family", ["sd3.5-medium", "flux-dev", "flux-schnell"])
def test_a_single_file_paints_what_its_folder_paints(published, tmp_path: Path, family: str):
    _, folder = published(family)
    model = loaded(folder, family)
    networks = {one.part.component: load(one) for one in found_in(folder)}
    path = write_single_file(tmp_path / "whole.safetensors", networks)
    third = "tokenizer_3" if family.startswith("sd3") else "tokenizer_2"
    with pytest.raises(NotFound, match=third) as refusal:
        TextToImage.load(str(path))
    assert "spiece.model" in str(refusal.value)
    spiece_folder(tmp_path / third)
    single = TextToImage.load(str(path))
    assert single.sampling == model.sampling and single.size == (256, 256)
    asked = {"prompt": "a (red:1.3) cat", "seed": 5, "steps": 4, "width": 24, "height": 16}
    assert single(**asked).tobytes() == model(**asked).tobytes()


def test_a_transformer_alone_is_no_model(published, tmp_path: Path):
    _, folder = published("flux-dev")
    networks = {one.part.component: load(one) for one in found_in(folder)}
    path = write_single_file(tmp_path / "f.safetensors", {"transformer": networks["transformer"]})
    with pytest.raises(Unreadable, match="holds transformer and no vae"):
        TextToImage.load(str(path))


@pytest.mark.parametrize("family", ["sd3", "sd3.5-medium"])
def test_their_converters_read_our_single_file_of_sd3(published, tmp_path: Path, family: str):
    made, folder = published(family)
    networks = {one.part.component: load(one) for one in found_in(folder)}
    stored = load_file(write_single_file(tmp_path / "whole.safetensors", networks))
    start = "model.diffusion_model."
    parts = {
        "transformer": single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers(
            {key.removeprefix(start): t for key, t in stored.items() if key.startswith(start)}
        ),
        "vae": single_file_utils.convert_ldm_vae_checkpoint(dict(stored), dict(made.vae.config)),
        "text_encoder_3": single_file_utils.convert_sd3_t5_checkpoint_to_diffusers(dict(stored)),
        "text_encoder_2": single_file_utils.convert_ldm_clip_checkpoint(
            dict(stored), "text_encoders.clip_g.transformer."
        ),
    }
    for part, found in parts.items():
        wanted = dict(getattr(made, part).state_dict())
        wanted.pop("encoder.embed_tokens.weight", None)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.slow
def test_their_converter_reads_our_single_file_of_flux(tmp_path: Path):
    """It takes every width for 3,072."""
    made = FluxTransformer2DModel(
        num_layers=1, num_single_layers=1, num_attention_heads=24, joint_attention_dim=16,
        pooled_projection_dim=16, guidance_embeds=True,
    ).half()  # fmt: skip
    folder = tmp_path / "transformer"
    made.save_pretrained(folder)
    (one,) = found_in(folder)
    stored = load_file(write_single_file(tmp_path / "flux.safetensors", {"transformer": load(one)}))
    found = single_file_utils.convert_flux_transformer_checkpoint_to_diffusers(stored)
    wanted = made.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_what_does_not_go_with_a_family_is_refused(published):
    dev, schnell, sd3 = (
        TextToImage.load(str(published(family)[1]))
        for family in ("flux-dev", "flux-schnell", "sd3.5-medium")
    )
    refused: list[tuple[TextToImage, dict[str, Any], str]] = [
        (dev, {"negative_prompt": "dark"}, "no negative prompt"),
        (dev, {"width": 18}, "multiples of 4"),
        (schnell, {"guidance": 3.0}, "takes no guidance"),
        (sd3, {"width": 100}, "up to 96"),
        (sd3, {"spacing": "karras", "shift": 2.0}, "has no shift"),
        (dev, {"prompt": "a cat and a dog " * 100}, "longer than T5 reads"),
    ]
    for model, asked, said in refused:
        with pytest.raises(InvalidValue, match=said):
            model(**({"prompt": "a cat", "steps": 1} | asked))


def test_rows_and_lengths_do_not_mix(published):
    """Prompts of one and of three chunks in one batch: each as alone."""
    model = TextToImage.load(str(published("sd3.5-medium")[1]))
    prompts = ["a (red:1.3) cat", "a dog " * 80]
    together = model(prompts, seed=[3, 4], steps=3)
    assert isinstance(together, list)
    for prompt, seed, picture in zip(prompts, [3, 4], together, strict=True):
        alone = np.asarray(model(prompt, seed=seed, steps=3)).astype(int)
        assert np.abs(alone - np.asarray(picture)).max() <= 1


def test_begun_from_a_picture_and_by_another_solver(published):
    model = TextToImage.load(str(published("flux-dev")[1]))
    size = {"width": 16, "height": 16}
    one, other = (model("a cat", seed=seed, steps=2, **size) for seed in (1, 2))
    pair = [model("a dog", seed=1, steps=4, init=init, strength=0.25) for init in (one, other)]
    assert pair[0].tobytes() != pair[1].tobytes()
    whole = [model("a dog", seed=1, steps=4, init=init, strength=1.0) for init in (one, other)]
    new = model("a dog", seed=1, steps=4, **size)
    assert whole[0].tobytes() == whole[1].tobytes() == new.tobytes()
    mask = Image.fromarray(np.eye(16, dtype=np.uint8) * 255)
    kept = np.asarray(model("a dog", seed=1, steps=4, init=one, mask=mask))
    outside = np.asarray(mask) == 0
    assert np.array_equal(kept[outside], np.asarray(one)[outside])
    assert model("a cat", seed=1, steps=4, solver="heun", **size).size == (16, 16)


def test_windows_are_of_whole_tokens(published):
    """One window over all is the picture; the shown picture is cut with the window."""
    model = TextToImage.load(str(published("flux-control")[1]))
    edges = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8))
    whole = model("a cat", seed=1, steps=2, init=edges)
    one = model("a cat", seed=1, steps=2, init=edges, tiling=Tiling(20, 4))
    assert np.abs(np.asarray(whole).astype(int) - np.asarray(one)).max() <= 1
    many = model("a cat", seed=1, steps=2, init=edges, tiling=Tiling(8, 3))
    assert isinstance(many, Image.Image) and many.size == (40, 24)
    begin = Begin(picture=np.asarray(edges))
    request = Request(prompts=["a cat"], seeds=[1], sampling=model.sampling, begin=begin)
    (told,) = model.networks.tell(request)
    part = model.networks.part(told, 2, 7, 4, 8)
    assert torch.equal(part.beside, told.beside[:, :, 2:6, 7:15]) and part.words is told.words
    with pytest.raises(InvalidValue, match="part a token"):
        model("a cat", seed=1, steps=2, init=edges, tiling=Tiling(9, 4))


SAID = {
    "sigmas": ({"use_karras_sigmas": True}, "use_karras_sigmas = True"),
    "kind": ({"time_shift_type": "linear"}, "time_shift_type = 'linear'"),
    "class": ({"_class_name": "DDIMScheduler"}, "DDIMScheduler"),
}


@pytest.mark.parametrize("kind", SAID)
def test_a_scheduler_that_is_not_built_is_refused_by_name(published, tmp_path: Path, kind: str):
    _, folder = published("flux-dev")
    shutil.copytree(folder, tmp_path / "other")
    path = tmp_path / "other" / "scheduler" / "scheduler_config.json"
    change, said = SAID[kind]
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(Unreadable, match=said):
        TextToImage.load(str(tmp_path / "other"))


def test_a_scheduler_says_its_shift(published, tmp_path: Path):
    _, folder = published("flux-dev")
    shutil.copytree(folder, tmp_path / "other")
    path = tmp_path / "other" / "scheduler" / "scheduler_config.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"use_dynamic_shifting": False, "shift": 2.5}))
    assert TextToImage.load(str(tmp_path / "other")).sampling.shift == 2.5
    path.write_text(json.dumps(said | {"base_shift": 1.0, "max_shift": 2.0}))
    preset = TextToImage.load(str(tmp_path / "other")).networks.preset  # pyright: ignore
    assert np.log([preset.shift(n, 4) for n in (256, 4096)]) == pytest.approx([1.0, 2.0])
