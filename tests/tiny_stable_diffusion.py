"""A Stable Diffusion of a few thousand weights, all drawn, as one file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from diptych.checkpoints.write import write_single_file
from diptych.models.autoencoder_sd import AutoencoderSD, AutoencoderSDConfig
from diptych.models.clip_text import CLIPText, CLIPTextConfig
from diptych.models.unet import UNet, UNetConfig

# What a file of weights does not say is as `checkpoints` assumes it: 8 heads, 32 groups, words of
# 64 channels a head.
UNET = UNetConfig(widths=(32, 64), blocks=1, depths=(1, 0), heads=(8, 8), context_width=64)
VAE = AutoencoderSDConfig(widths=(32, 64), blocks=1, groups=32)
CLIP = replace(CLIPTextConfig(), width=64, depth=2, heads=1, hidden=96, activation="gelu")


def tiny_networks(seed: int = 0) -> dict[str, nn.Module]:
    """U-Net, autoencoder and text encoder with drawn weights, float32."""
    generator = torch.Generator().manual_seed(seed)
    networks: dict[str, nn.Module] = {
        "unet": UNet(UNET), "vae": AutoencoderSD(VAE), "text_encoder": CLIPText(CLIP)
    }  # fmt: skip
    for network in networks.values():
        network.requires_grad_(False).eval()
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5, generator=generator)
            else:
                parameter.normal_(
                    float("norm" in name and "weight" in name), 0.1, generator=generator
                )
    return networks


def tiny_file(path: Path) -> Path:
    """All of it in the original layout."""
    return write_single_file(path, tiny_networks())
