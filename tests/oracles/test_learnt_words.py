"""Learnt words and adapters in whole pictures beside diffusers."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from safetensors.torch import save_file
from torch import nn

from diptych.pipelines.painter_front import TextToImage
from tests.oracles.test_stable_diffusion import DDIM, made_sd1, painted_by

pytestmark = pytest.mark.filterwarnings("ignore")
SIZE = {"width": 24, "height": 16}


@pytest.fixture(scope="module")
def theirs() -> StableDiffusionPipeline:
    return made_sd1()


@pytest.fixture(scope="module")
def folder(theirs: StableDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sd1")
    theirs.save_pretrained(path)
    return path


@pytest.mark.parametrize("rows", [1, 3])
def test_a_learnt_word_paints_the_same_picture(
    theirs: StableDiffusionPipeline,
    folder: Path,
    tmp_path: Path,
    rows: int,
):
    path = tmp_path / "x.safetensors"
    save_file({"<cat-toy>": torch.randn(rows, 64)}, path)
    whole = copy.deepcopy(theirs)
    whole.scheduler = DDIM
    whole.load_textual_inversion(str(tmp_path), weight_name="x.safetensors")
    prompt = "a photo of <cat-toy>, red"
    generator = torch.Generator().manual_seed(5)
    wanted = whole(
        prompt,
        generator=generator,
        output_type="np",
        num_inference_steps=8,
        guidance_scale=7.5,
        **SIZE,
    ).images[0]
    model = TextToImage.load(str(folder))
    model.add(path)
    ours = model(prompt, seed=5, steps=8, guidance=7.5, solver="euler", **SIZE)
    assert np.abs(np.asarray(ours) / 255 - wanted).max() < 0.5 / 255 + 1e-4


def test_a_lora_paints_the_same_picture(
    theirs: StableDiffusionPipeline,
    folder: Path,
    tmp_path: Path,
):
    """The U-Net's; that of words is held in `test_adapters`."""
    whole = copy.deepcopy(theirs)
    whole.scheduler = DDIM
    file: dict[str, torch.Tensor] = {}
    for path, module in whole.unet.named_modules():
        if isinstance(module, nn.Linear) and "attn" in path:
            name = f"lora_unet_{path.replace('.', '_')}"
            file[f"{name}.lora_down.weight"] = torch.randn(4, module.in_features) * 0.2
            file[f"{name}.lora_up.weight"] = torch.randn(module.out_features, 4) * 0.2
            file[f"{name}.alpha"] = torch.tensor(2.0)
    save_file(file, tmp_path / "x.safetensors")
    whole.load_lora_weights(str(tmp_path), weight_name="x.safetensors")
    wanted = painted_by(
        whole,
        5,
        num_inference_steps=8,
        guidance_scale=7.5,
        cross_attention_kwargs={"scale": 0.7},
        **SIZE,
    )
    model = TextToImage.load(str(folder))
    words = {"prompt": "a photo of a cat", "negative_prompt": "blurry, dark"}
    asked = {"seed": 5, "steps": 8, "guidance": 7.5, "solver": "euler", **SIZE}
    plain = model(**words, **asked)
    model.add(tmp_path / "x.safetensors")
    ours = model(**words, loras=[("x", 0.7)], **asked)
    assert np.abs(np.asarray(ours) / 255 - wanted).max() < 0.5 / 255 + 1e-4
    assert np.abs(np.asarray(plain) / 255 - wanted).max() > 0.02
