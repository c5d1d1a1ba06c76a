"""Stable Diffusions of a few thousand weights, all drawn, each as one file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from diptych.checkpoints.families.controls import controlnet_rules
from diptych.checkpoints.folder import save_tensors
from diptych.checkpoints.rules import plan_of, stored_of
from diptych.checkpoints.write import write_single_file
from diptych.models.autoencoder_sd import SDXL_VAE, AutoencoderSD, AutoencoderSDConfig
from diptych.models.clip_text import CLIPText, CLIPTextConfig
from diptych.models.controlnet import ControlNet, ControlNetConfig
from diptych.models.unet import UNet, UNetConfig

# What a file of weights does not say is as `checkpoints` assumes it: 8 heads, 32 groups, words of
# 64 channels a head.
UNET = UNetConfig(widths=(32, 64), blocks=1, depths=(1, 0), heads=(8, 8), context_width=64)
VAE = AutoencoderSDConfig(widths=(32, 64), blocks=1, groups=32)
CLIP = replace(CLIPTextConfig(), width=64, depth=2, heads=1, hidden=96, activation="gelu")
LINEAR = replace(UNET, widths=(64, 128), heads=(1, 2), linear_projection=True)
_CLIP_G = replace(CLIP, width=128, depth=3, heads=2, projection=48)
_VECTOR = 48 + 6 * 256

FAMILIES: dict[str, Callable[[], dict[str, nn.Module]]] = {
    "sd1": lambda: {
        "unet": UNet(UNET), "vae": AutoencoderSD(VAE), "text_encoder": CLIPText(CLIP)
    },
    "sd2": lambda: {
        "unet": UNet(LINEAR), "vae": AutoencoderSD(VAE), "text_encoder": CLIPText(CLIP)
    },
    "sdxl": lambda: {
        "unet": UNet(
            replace(
                LINEAR, depths=(0, 1), mid_depth=2, context_width=64 + 128, vector_width=_VECTOR
            )
        ),
        "vae": AutoencoderSD(replace(VAE, scale=SDXL_VAE.scale)),
        "text_encoder": CLIPText(CLIP),
        "text_encoder_2": CLIPText(_CLIP_G),
    },
    # Known by its words of 1,280 channels.
    "sdxl-refiner": lambda: {
        "unet": UNet(replace(LINEAR, context_width=1280, vector_width=1280 + 5 * 256)),
        "vae": AutoencoderSD(replace(VAE, scale=SDXL_VAE.scale)),
        "text_encoder_2": CLIPText(_CLIP_G),
    },
}  # fmt: skip


def tiny_networks(family: str = "sd1", seed: int = 0) -> dict[str, nn.Module]:
    """The components of a family with drawn weights, float32."""
    return all_drawn(FAMILIES[family](), seed)


def all_drawn(networks: dict[str, nn.Module], seed: int = 0) -> dict[str, nn.Module]:
    """The networks, each with weights of its own."""
    generator = torch.Generator().manual_seed(seed)
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


def tiny_file(path: Path, family: str = "sd1") -> Path:
    """All of it in the original layout."""
    return write_single_file(path, tiny_networks(family))


def tiny_control(path: Path, seed: int = 1) -> Path:
    """A ControlNet for the tiny SD 1, in the original layout."""
    config = ControlNetConfig(unet=UNET, hint_widths=(8, 16))
    torch.manual_seed(seed)
    network = ControlNet(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    plan = plan_of(controlnet_rules(config), network.state_dict(), "control_model.")
    stored = stored_of(plan, network.state_dict())
    return save_tensors(path, {k: t.detach().contiguous() for k, t in stored.items()}, {})
