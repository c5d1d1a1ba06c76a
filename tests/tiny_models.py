"""Model folders with small random weights, for tests that need a whole model and no skill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from diptych.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from diptych.models.dual_encoder import DualEncoderConfig, DualEncoderNetwork
from diptych.models.painter import Painter, PainterConfig
from diptych.models.vision_language import VisionConfig, VisionLanguage, VisionLanguageConfig
from diptych.pipelines.calibration import Calibration
from diptych.pipelines.embedding import EmbeddingNetworks
from diptych.pipelines.folders import (
    write_dual_encoder,
    write_image_to_text,
    write_text_to_image,
)
from diptych.pipelines.image_to_text import TASK_WORDS, ImageToTextNetworks
from diptych.pipelines.painter_networks import TextToImageNetworks
from diptych.pipelines.sampling import Sampling
from diptych.recipes.scenes_words import scenes_tokenizer


def tiny_painter(folder: Path) -> Path:
    """A painter of 32 x 32 pictures, two steps by default."""
    torch.manual_seed(1)
    tokenizer, tiny = scenes_tokenizer(), PainterConfig.tiny()
    text = replace(tiny.text, vocabulary=len(tokenizer), length=24)
    painter = _random(Painter(replace(tiny, text=text)))
    autoencoder = _random(AutoencoderKL(AutoencoderKLConfig.tiny()))
    networks = TextToImageNetworks(painter, autoencoder, tokenizer, 4)
    write_text_to_image(folder, networks, Sampling(steps=2))
    return folder


def tiny_reader(folder: Path) -> Path:
    """A reader of 32 x 32 pictures."""
    torch.manual_seed(2)
    tokenizer = scenes_tokenizer(TASK_WORDS)
    vision = VisionConfig(image_size=32, stem=(8, 8), width=32, depth=1, head_dim=16)
    config = VisionLanguageConfig.tiny()
    reader = VisionLanguage(replace(config, vision=vision, vocabulary=len(tokenizer), length=24))
    calibration = Calibration(1.5, -0.2, 0.01, 100)
    write_image_to_text(folder, ImageToTextNetworks(_random(reader), tokenizer, calibration))
    return folder


def tiny_dual_encoder(folder: Path) -> Path:
    """A dual encoder for 32 x 32 pictures and any caption."""
    torch.manual_seed(3)
    tokenizer, tiny = scenes_tokenizer(), DualEncoderConfig.tiny()
    text = replace(tiny.text, vocabulary=len(tokenizer), length=96)
    encoder = _random(DualEncoderNetwork(replace(tiny, text=text)))
    write_dual_encoder(folder, EmbeddingNetworks(encoder, tokenizer))
    return folder


def _random(network: nn.Module) -> nn.Module:
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network.eval()
