"""Stable Diffusion 1 beside diffusers: the same folder, words and seed are the same picture; and
the original layout is read by their converters as it is by us."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from diffusers.loaders import single_file_utils
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from diptych.checkpoints.load import found_in, load
from diptych.checkpoints.write import write_single_file
from diptych.foundation.errors import Unreadable
from diptych.pipelines.painter_front import TextToImage
from diptych.text import clip_bpe

pytestmark = pytest.mark.filterwarnings("ignore")
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PNDM = PNDMScheduler(**SD, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)
DDIM = DDIMScheduler(**SD, steps_offset=1, set_alpha_to_one=False, clip_sample=False)
WORDS = {"prompt": "a photo of a cat", "negative_prompt": "blurry, dark"}


def drawn(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return network.eval()


def tokenizer() -> CLIPTokenizer:
    """CLIP's own words in their tokenizer."""
    packed = Path(clip_bpe.__file__).with_name("clip") / "merges.txt.gz"
    merges = [
        tuple(line.split())
        for line in gzip.decompress(packed.read_bytes()).decode().split("\n")[:-1]
    ]
    numbers = clip_bpe.vocabulary_of(merges)
    return CLIPTokenizer(vocab=numbers, merges=merges, model_max_length=77)


def made_sd1() -> StableDiffusionPipeline:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=64, attention_head_dim=8,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(32, 64), down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2, latent_channels=4, sample_size=16,
    )  # fmt: skip
    words = CLIPTextConfig(
        hidden_size=64, intermediate_size=96, num_attention_heads=1, num_hidden_layers=3,
        vocab_size=49408, hidden_act="gelu", bos_token_id=49406, eos_token_id=49407,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=drawn(vae), text_encoder=drawn(CLIPTextModel(words)), tokenizer=tokenizer(),
        unet=drawn(unet), scheduler=PNDM, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def theirs() -> StableDiffusionPipeline:
    return made_sd1()


@pytest.fixture(scope="module")
def folder(theirs: StableDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sd1")
    theirs.save_pretrained(path)
    return path


def painted_by(theirs: StableDiffusionPipeline, seed: int, **asked: object) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    return theirs(**WORDS, generator=generator, output_type="np", **asked).images[0]


@pytest.mark.parametrize("size", [(16, 16), (24, 40)])
@pytest.mark.parametrize(("solver", "scheduler"), [("pndm", PNDM), ("euler", DDIM)])
def test_a_folder_paints_the_same_picture(
    theirs: StableDiffusionPipeline, folder: Path, solver: str, scheduler: object, size
):
    width, height = size
    theirs.scheduler = scheduler
    wanted = painted_by(
        theirs, 5, num_inference_steps=20, guidance_scale=7.5, width=width, height=height
    )
    model = TextToImage.load(str(folder))
    assert all(report.applied == report.total for report in model.reports)
    ours = model(**WORDS, seed=5, steps=20, guidance=7.5, solver=solver, width=width, height=height)
    # Ours is rounded to bytes: half of one, and 1e-4 of the range.
    assert ours.size == size and np.abs(np.asarray(ours) / 255 - wanted).max() < 0.5 / 255 + 1e-4


def test_a_single_file_paints_what_its_folder_paints(folder: Path, tmp_path: Path):
    model = TextToImage.load(str(folder))
    networks = {one.part.component: load(one) for one in found_in(folder)}
    path = write_single_file(tmp_path / "whole.safetensors", networks)
    single = TextToImage.load(str(path))
    one = model(**WORDS, seed=5, steps=4, width=16, height=16)
    other = single(**WORDS, seed=5, steps=4, width=16, height=16)
    assert one.tobytes() == other.tobytes()
    assert single.size == (128, 128)  # 64 cells of the two-level autoencoder


def test_their_converters_read_our_single_file(
    theirs: StableDiffusionPipeline, folder: Path, tmp_path: Path
):
    networks = {one.part.component: load(one) for one in found_in(folder)}
    path = write_single_file(tmp_path / "whole.safetensors", networks)
    config = dict(theirs.unet.config)
    unet = single_file_utils.convert_ldm_unet_checkpoint(load_file(path), config)
    vae = single_file_utils.convert_ldm_vae_checkpoint(load_file(path), dict(theirs.vae.config))
    for found, network in ((unet, theirs.unet), (vae, theirs.vae)):
        wanted = network.state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_component_that_is_left_out_is_named_and_another_refused(folder: Path, tmp_path: Path):
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    index = json.loads((whole / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (whole / "model_index.json").write_text(json.dumps(index))
    assert "safety_checker/" in found_in(whole)[0].report.ignored
    index["prior"] = ["diffusers", "PriorTransformer"]
    (whole / "model_index.json").write_text(json.dumps(index))
    (whole / "prior").mkdir()
    (whole / "prior" / "config.json").write_text("{}")
    with pytest.raises(Unreadable, match=r"'prior'.*not built"):
        found_in(whole)


def test_half_precision_variants_and_shards(theirs: StableDiffusionPipeline, tmp_path: Path):
    theirs.unet.save_pretrained(tmp_path / "a", variant="fp16")
    theirs.unet.save_pretrained(tmp_path / "b", max_shard_size="1MB")
    assert len(list((tmp_path / "b").glob("*.safetensors"))) > 2
    wanted = theirs.unet.state_dict()
    for found in (found_in(tmp_path / "a", variant="fp16"), found_in(tmp_path / "b")):
        state = load(found[0]).state_dict()
        assert state.keys() == wanted.keys()
        assert all(torch.equal(state[name], wanted[name]) for name in wanted)


def test_rows_and_lengths_do_not_mix(folder: Path):
    """Prompts of one and of three chunks in one batch: each as alone."""
    model = TextToImage.load(str(folder))
    prompts = ["a (red:1.3) cat", "a dog " * 80]
    together = model(prompts, seed=[3, 4], steps=3)
    assert isinstance(together, list)
    for prompt, seed, picture in zip(prompts, [3, 4], together, strict=True):
        alone = np.asarray(model(prompt, seed=seed, steps=3)).astype(int)
        assert np.abs(alone - np.asarray(picture)).max() <= 1
