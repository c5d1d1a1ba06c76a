"""Stable Diffusion 2 and XL beside diffusers: the same folder, words and seed are the same
picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from diffusers.loaders import single_file_utils
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from diptych.checkpoints.load import found_in, load
from diptych.checkpoints.write import write_single_file
from diptych.pipelines.painter_front import TextToImage
from tests.oracles.test_stable_diffusion import drawn, tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
DDIM = {**SD, "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}
SCHEDULERS = {
    "v": DDIMScheduler(**DDIM, prediction_type="v_prediction"),
    "eps": DDIMScheduler(**DDIM),
    "xl": EulerDiscreteScheduler(
        **SD, steps_offset=1, timestep_spacing="leading", interpolation_type="linear"
    ),
}
SIZES = pytest.mark.parametrize("size", [(16, 16), (24, 40)])


def padded_with_0() -> CLIPTokenizer:
    made = tokenizer()
    made.pad_token = "!"
    assert made.pad_token_id == 0
    return made


def words(**changes: object) -> CLIPTextConfig:
    return CLIPTextConfig(
        **{
            "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 1,
            "num_hidden_layers": 3, "vocab_size": 49408, "hidden_act": "gelu",
            "bos_token_id": 49406, "eos_token_id": 49407, **changes,
        }
    )  # fmt: skip


def vae(scale: float) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(32, 64), down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2, latent_channels=4, sample_size=16,
        scaling_factor=scale,
    )  # fmt: skip


def made_sd2() -> StableDiffusionPipeline:
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(64, 128), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=64,
        attention_head_dim=[1, 2], use_linear_projection=True, upcast_attention=True,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=drawn(vae(0.18215)), text_encoder=drawn(CLIPTextModel(words())),
        tokenizer=padded_with_0(), unet=drawn(unet), scheduler=SCHEDULERS["v"],
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def made_xl() -> StableDiffusionXLPipeline:
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(64, 128), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=128 + 64,
        transformer_layers_per_block=[1, 2], attention_head_dim=[1, 2],
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=48 + 6 * 256,
    )  # fmt: skip
    second = words(hidden_size=128, num_attention_heads=2, projection_dim=48, num_hidden_layers=4)
    return StableDiffusionXLPipeline(
        vae=drawn(vae(0.13025)), text_encoder=drawn(CLIPTextModel(words())),
        text_encoder_2=drawn(CLIPTextModelWithProjection(second)), tokenizer=tokenizer(),
        tokenizer_2=padded_with_0(), unet=drawn(unet), scheduler=SCHEDULERS["xl"],
        add_watermarker=False,
    )  # fmt: skip


def saved(pipeline, path: Path):
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(path)
    return pipeline, path


@pytest.fixture(scope="module")
def sd2(tmp_path_factory: pytest.TempPathFactory):
    torch.manual_seed(0)
    return saved(made_sd2(), tmp_path_factory.mktemp("sd2"))


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory):
    torch.manual_seed(0)
    return saved(made_xl(), tmp_path_factory.mktemp("xl"))


def same(theirs, ours: TextToImage, asked: dict, size: tuple[int, int], **sampling: str) -> None:
    width, height = size
    wanted = theirs(
        **asked, generator=torch.Generator().manual_seed(5), output_type="np",
        num_inference_steps=10, guidance_scale=7.5, width=width, height=height,
    ).images[0]  # fmt: skip
    found = ours(**asked, seed=5, steps=10, guidance=7.5, width=width, height=height, **sampling)
    # Ours is rounded to bytes: half of one, and 1e-4 of the range.
    assert found.size == size and np.abs(np.asarray(found) / 255 - wanted).max() < 0.5 / 255 + 1e-4


@SIZES
@pytest.mark.parametrize("prediction", ["v", "eps"])
def test_sd2_paints_the_same_picture(sd2, tmp_path: Path, prediction: str, size: tuple[int, int]):
    theirs, folder = sd2
    theirs.scheduler = SCHEDULERS[prediction]
    theirs.scheduler.save_pretrained(folder / "scheduler")
    model = TextToImage.load(str(folder))
    assert model.networks.prediction == prediction
    assert model.sampling.solver == {"v": "ddim", "eps": "pndm"}[prediction]
    assert all(report.applied == report.total for report in model.reports)
    asked = {"prompt": "a photo of a cat", "negative_prompt": "blurry, dark"}
    same(theirs, model, asked, size, solver="ddim")
    same(theirs, model, {"prompt": "a dog"}, size, solver="ddim")


@SIZES
@pytest.mark.parametrize("negative", [None, "blurry, dark"])
def test_xl_paints_the_same_picture(xl, negative: str | None, size: tuple[int, int]):
    theirs, folder = xl
    model = TextToImage.load(str(folder))
    assert [report.family for report in model.reports if report.component == "unet"] == ["sdxl"]
    assert all(report.applied == report.total for report in model.reports)
    asked = {"prompt": "a photo of a cat"} | ({"negative_prompt": negative} if negative else {})
    same(theirs, model, asked, size)


def test_xl_of_v_prediction_paints_the_same_picture(xl, tmp_path: Path):
    theirs, folder = xl
    shutil.copytree(folder, tmp_path / "v")
    scheduler = EulerDiscreteScheduler.from_config(
        SCHEDULERS["xl"].config, prediction_type="v_prediction"
    )
    scheduler.save_pretrained(tmp_path / "v" / "scheduler")
    model = TextToImage.load(str(tmp_path / "v"))
    theirs.scheduler = scheduler
    same(theirs, model, {"prompt": "a dog", "negative_prompt": "dark"}, (16, 24))
    theirs.scheduler = SCHEDULERS["xl"]
    # In one file a mark tells it, and another that the last step is noise alone.
    networks = {one.part.component: load(one) for one in found_in(folder)}
    path = write_single_file(tmp_path / "v.safetensors", networks, prediction="v")
    asked = {"prompt": "a dog", "seed": 3, "steps": 3, "width": 16, "height": 24}
    assert TextToImage.load(str(path))(**asked).tobytes() == model(**asked).tobytes()
    save_file(load_file(path) | {"ztsnr": torch.empty(0)}, path)
    assert TextToImage.load(str(path)).sampling.spacing == "trailing"


def test_a_folder_says_whether_nothing_is_zeros(xl, tmp_path: Path):
    """With force_zeros_for_empty_prompt false the empty text is read."""
    theirs, _ = xl
    theirs.register_to_config(force_zeros_for_empty_prompt=False)
    theirs.save_pretrained(tmp_path)
    assert not json.loads((tmp_path / "model_index.json").read_text())[
        "force_zeros_for_empty_prompt"
    ]
    same(theirs, TextToImage.load(str(tmp_path)), {"prompt": "a cat"}, (16, 24))
    theirs.register_to_config(force_zeros_for_empty_prompt=True)
    zeros = theirs("a cat", output_type="np", num_inference_steps=2, width=16, height=24,
                   generator=torch.Generator().manual_seed(5)).images[0]  # fmt: skip
    ours = TextToImage.load(str(tmp_path))("a cat", seed=5, steps=2, width=16, height=24)
    assert np.abs(np.asarray(ours) / 255 - zeros).max() > 0.01


@pytest.mark.parametrize(("family", "cells"), [("sd2", 64), ("xl", 128)])
def test_a_single_file_paints_what_its_folder_paints(request, tmp_path: Path, family: str, cells):
    _, folder = request.getfixturevalue(family)
    if family == "sd2":
        SCHEDULERS["v"].save_pretrained(folder / "scheduler")
    model = TextToImage.load(str(folder))
    networks = {one.part.component: load(one) for one in found_in(folder)}
    path = write_single_file(
        tmp_path / "whole.safetensors", networks, prediction=model.networks.prediction
    )
    single = TextToImage.load(str(path))
    assert single.sampling == model.sampling and single.size == (2 * cells, 2 * cells)
    asked = {"prompt": "a (red:1.3) cat", "seed": 5, "steps": 4, "width": 24, "height": 16}
    one, other = model(**asked), single(**asked)
    assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("family", ["sd2", "xl"])
def test_their_converters_read_our_single_file(request, tmp_path: Path, family: str):
    theirs, folder = request.getfixturevalue(family)
    networks = {one.part.component: load(one) for one in found_in(folder)}
    stored = load_file(write_single_file(tmp_path / "whole.safetensors", networks))
    parts = {
        "unet": single_file_utils.convert_ldm_unet_checkpoint(stored, dict(theirs.unet.config)),
        "vae": single_file_utils.convert_ldm_vae_checkpoint(stored, dict(theirs.vae.config)),
    }
    name, prefix = {
        "sd2": ("text_encoder", "cond_stage_model.model."),
        "xl": ("text_encoder_2", "conditioner.embedders.1.model."),
    }[family]
    their = getattr(theirs, name)
    parts[name] = single_file_utils.convert_open_clip_checkpoint(their, dict(stored), prefix=prefix)
    for part, found in parts.items():
        wanted = {key.removeprefix("text_model."): t
                  for key, t in getattr(theirs, part).state_dict().items()}  # fmt: skip
        named = {key.removeprefix("text_model."): t for key, t in found.items()}
        assert named.keys() >= wanted.keys()
        assert all(torch.equal(named[key], wanted[key]) for key in wanted)
