"""Pictures made of pictures beside diffusers: image to image, inpainting with a network for it,
editing by instruction, and a base with its refiner, each the same picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img import (
    StableDiffusionXLImg2ImgPipeline,
)
from PIL import Image
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from diptych.foundation.errors import InvalidValue
from diptych.pipelines.painter_front import TextToImage
from tests.oracles.test_stable_diffusion import drawn, tokenizer
from tests.oracles.test_stable_diffusion_2_and_xl import (
    DDIM,
    SCHEDULERS,
    made_xl,
    padded_with_0,
    saved,
    vae,
    words,
)

pytestmark = pytest.mark.filterwarnings("ignore")
ASKED = {"prompt": "a photo of a cat", "negative_prompt": "blurry, dark"}
STEPS = {"num_inference_steps": 20, "guidance_scale": 7.5, "output_type": "np"}


def picture(width: int = 40, height: int = 24) -> Image.Image:
    draw = np.random.default_rng(3)
    return Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))


def certain(scale: float) -> AutoencoderKL:
    """An autoencoder that is sure of its latents: theirs draws, ours takes the mean."""
    made = drawn(vae(scale))
    with torch.no_grad():
        made.quant_conv.weight[4:] = 0
        made.quant_conv.bias[4:] = -30
    return made


def unet(channels: int) -> UNet2DConditionModel:
    return drawn(
        UNet2DConditionModel(
            sample_size=8, in_channels=channels, out_channels=4, block_out_channels=(32, 64),
            layers_per_block=1, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=64,
            attention_head_dim=8,
        )
    )  # fmt: skip


def made(pipeline: type, channels: int, path: Path, scheduler: object):
    torch.manual_seed(0)
    parts = {
        "vae": certain(0.18215), "text_encoder": drawn(CLIPTextModel(words())),
        "tokenizer": tokenizer(), "unet": unet(channels), "scheduler": scheduler,
        "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False,
    }  # fmt: skip
    return saved(pipeline(**parts), path)


def assert_near(ours: Image.Image, wanted: np.ndarray) -> None:
    # Ours is rounded to bytes: half of one, and 1e-4 of the range.
    assert np.abs(np.asarray(ours) / 255 - wanted).max() < 0.5 / 255 + 1e-4


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_image_to_image(tmp_path: Path):
    theirs, folder = made(StableDiffusionImg2ImgPipeline, 4, tmp_path, DDIMScheduler(**DDIM))
    # Their generator draws for the autoencoder before the noise.
    torch.manual_seed(0)
    theirs.vae.encode = lambda x, encode=theirs.vae.encode: _mode(encode(x))
    wanted = theirs(**ASKED, **STEPS, image=picture(), strength=0.55, generator=seeded()).images[0]
    model = TextToImage.load(str(folder))
    asked = {"seed": 5, "steps": 20, "guidance": 7.5, "solver": "ddim"}
    assert_near(model(**ASKED, **asked, init=picture(), strength=0.55), wanted)


def _mode(found):
    found.latent_dist.sample = lambda generator=None: found.latent_dist.mean
    return found


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_inpainting_with_nine_channels(tmp_path: Path, strength: float):
    theirs, folder = made(StableDiffusionInpaintPipeline, 9, tmp_path, DDIMScheduler(**DDIM))
    theirs.vae.encode = lambda x, encode=theirs.vae.encode: _mode(encode(x))
    init, where = picture(), np.zeros((24, 40), np.uint8)
    where[6:19, 10:32] = 255
    mask = Image.fromarray(where)
    wanted = theirs(
        **ASKED, **STEPS, image=init, mask_image=mask, width=40, height=24, strength=strength,
        generator=seeded(),
    ).images[0]  # fmt: skip
    wanted = np.where(where[:, :, None] > 0, wanted, np.asarray(init) / 255)
    model = TextToImage.load(str(folder))
    asked = {"seed": 5, "steps": 20, "guidance": 7.5, "solver": "ddim", "strength": strength}
    assert_near(model(**ASKED, **asked, init=init, mask=mask), wanted)
    with pytest.raises(InvalidValue, match="edits a picture"):
        model(**ASKED)


@pytest.mark.parametrize("guidances", [(7.5, 1.5), (4.0, 1.0)])
def test_editing_by_instruction(tmp_path: Path, guidances: tuple[float, float]):
    theirs, folder = made(
        StableDiffusionInstructPix2PixPipeline, 8, tmp_path,
        DDIMScheduler(**DDIM),
    )  # fmt: skip
    text, image = guidances
    wanted = theirs(
        **ASKED, image=picture(), num_inference_steps=20, guidance_scale=text,
        image_guidance_scale=image, output_type="np", generator=seeded(),
    ).images[0]  # fmt: skip
    model = TextToImage.load(str(folder))
    asked = {"seed": 5, "steps": 20, "solver": "ddim", "guidance": text}
    assert_near(model(**ASKED, **asked, image_guidance=image, init=picture()), wanted)
    with pytest.raises(InvalidValue, match="Leave strength out"):
        model(**ASKED, init=picture(), strength=0.5)


def refiner(path: Path):
    torch.manual_seed(1)
    network = UNet2DConditionModel(
        sample_size=8, block_out_channels=(64, 128), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=1280,
        attention_head_dim=[1, 2], use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=64 + 5 * 256,
    )  # fmt: skip
    text = words(hidden_size=1280, num_attention_heads=20, projection_dim=64, num_hidden_layers=2)
    return saved(
        StableDiffusionXLImg2ImgPipeline(
            vae=certain(0.13025), text_encoder=None, tokenizer=None, unet=drawn(network),
            text_encoder_2=drawn(CLIPTextModelWithProjection(text)), tokenizer_2=padded_with_0(),
            scheduler=SCHEDULERS["xl"], add_watermarker=False, requires_aesthetics_score=True,
            force_zeros_for_empty_prompt=False,
        ),
        path,
    )  # fmt: skip


def test_a_base_and_its_refiner(tmp_path: Path):
    torch.manual_seed(0)
    base, folder = saved(made_xl(), tmp_path / "base")
    second, other = refiner(tmp_path / "refiner")
    latents = base(
        **ASKED, num_inference_steps=20, guidance_scale=7.5, width=40, height=24,
        output_type="latent", denoising_end=0.8, generator=seeded(),
    ).images  # fmt: skip
    wanted = second(
        **ASKED, **STEPS, image=latents, denoising_start=0.8, original_size=(24, 40),
        target_size=(24, 40),
    ).images[0]  # fmt: skip
    model, refines = TextToImage.load(str(folder)), TextToImage.load(str(other))
    asked = {"seed": 5, "steps": 20, "guidance": 7.5, "width": 40, "height": 24}
    assert_near(model(**ASKED, **asked, refiner=refines), wanted)
    # By itself it paints a given picture anew.
    second.vae.encode = lambda x, encode=second.vae.encode: _mode(encode(x))
    wanted = second(**ASKED, **STEPS, image=picture(), strength=0.3, generator=seeded()).images[0]
    given = {"seed": 5, "steps": 20, "guidance": 7.5, "init": picture(), "strength": 0.3}
    assert_near(refines(**ASKED, **given), wanted)
