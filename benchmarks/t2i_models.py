"""Stable Diffusions of drawn weights in three sizes, as folders that both libraries read."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from diptych.text import clip_bpe

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
DDIM = {**SD, "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}


@dataclass(frozen=True, kw_only=True)
class Size:
    """`widths` and `words` of the U-Net and its text encoder, `vae` of the autoencoder; an
    autoencoder of two levels keeps pictures small."""

    widths: tuple[int, ...]
    attends: tuple[bool, ...]
    blocks: int
    heads: int
    words: int
    depth: int
    vae: tuple[int, ...] = (32, 64)
    groups: int = 32


SIZES = {
    "tiny": Size(
        widths=(32, 64), attends=(True, False), blocks=1, heads=4, words=32, depth=2, groups=8
    ),
    "90M": Size(
        widths=(128, 256, 512), attends=(True, True, True), blocks=2, heads=8, words=512, depth=4
    ),
    "SD1.5": Size(
        widths=(320, 640, 1280, 1280), attends=(True, True, True, False), blocks=2, heads=8,
        words=768, depth=12,
    ),
}  # fmt: skip


def tokenizer() -> CLIPTokenizer:
    """CLIP's own words in their tokenizer."""
    packed = Path(clip_bpe.__file__).with_name("clip") / "merges.txt.gz"
    lines = gzip.decompress(packed.read_bytes()).decode().split("\n")[:-1]
    merges = [tuple(line.split()) for line in lines]
    numbers = clip_bpe.vocabulary_of(merges)
    return CLIPTokenizer(vocab=numbers, merges=merges, model_max_length=77)


def peer(size: Size, seed: int = 0) -> StableDiffusionPipeline:
    """Their pipeline. Pictures of drawn weights mean nothing, and take as long."""
    torch.manual_seed(seed)
    down = ["CrossAttnDownBlock2D" if one else "DownBlock2D" for one in size.attends]
    up = ["CrossAttnUpBlock2D" if one else "UpBlock2D" for one in reversed(size.attends)]
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=size.widths, layers_per_block=size.blocks,
        down_block_types=down, up_block_types=up, cross_attention_dim=size.words,
        attention_head_dim=size.heads, norm_num_groups=size.groups,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=size.vae, down_block_types=["DownEncoderBlock2D"] * len(size.vae),
        up_block_types=["UpDecoderBlock2D"] * len(size.vae), latent_channels=4,
        norm_num_groups=size.groups,
    )  # fmt: skip
    text = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=size.words, intermediate_size=4 * size.words,
            num_attention_heads=max(1, size.words // 64), num_hidden_layers=size.depth,
            vocab_size=49408, bos_token_id=49406, eos_token_id=49407,
        )
    )  # fmt: skip
    for network in (unet, vae, text):
        network.eval().requires_grad_(False)
    made = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer(), unet=unet,
        scheduler=DDIMScheduler(**DDIM), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made
